//! Where the hub is, where its files are kept, and who asks: the environment variables that other tools read too.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};

/// The hub that is asked where nobody says which.
pub const ENDPOINT: &str = "https://huggingface.co";

/// A token of access. It is sent to the hub and to nobody else, and printed nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes a token as it stands in a file or a variable.
    ///
    /// # Errors
    /// `Setting` if no header could carry it.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            let problem = "it is empty or holds something other than visible ASCII".to_owned();
            return Err(Error::Setting { name: "the token", problem });
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Where the hub is, where its files are kept, and who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Address of the hub, without a slash at its end.
    pub endpoint: String,
    /// Folder of the cache.
    pub cache: PathBuf,
    /// Never to use the network.
    pub offline: bool,
    /// Who asks.
    pub token: Option<Token>,
    /// Time before a failed request is tried again; twice as long each further time.
    pub pause: Duration,
    /// Longest time in which a server may send nothing.
    pub patience: Duration,
}

impl Settings {
    /// Reads `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN` and `HF_TOKEN_PATH`.
    ///
    /// # Errors
    /// `Setting` for a value of no use, `Io` for a token file that cannot be read.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(|name| std::env::var_os(name), std::env::home_dir())
    }

    pub(crate) fn from_vars(var: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Result<Self> {
        let set = |name: &str| var(name).filter(|value| !value.is_empty());
        let path = |name: &str| set(name).map(|value| expand(Path::new(&value), home.as_deref()));
        let hf_home = path("HF_HOME").or_else(|| {
            let caches = path("XDG_CACHE_HOME").or_else(|| Some(home.as_ref()?.join(".cache")))?;
            Some(caches.join("huggingface"))
        });
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.or_else(|| Some(hf_home.as_ref()?.join("hub"))).ok_or_else(|| Error::Setting {
            name: "HF_HUB_CACHE",
            problem: "it is not set, and there is no home folder to keep a cache in".to_owned(),
        })?;
        let endpoint = match set("HF_ENDPOINT") {
            None => ENDPOINT.to_owned(),
            Some(value) => endpoint(&value.to_string_lossy())?,
        };
        let on = |name: &str| set(name).is_some_and(|value| is_true(&value.to_string_lossy()));
        let token = match set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN")) {
            _ if on("HF_HUB_DISABLE_IMPLICIT_TOKEN") => None,
            Some(value) => Some(Token::new(&value.to_string_lossy())?),
            None => match path("HF_TOKEN_PATH").or_else(|| Some(hf_home?.join("token"))) {
                Some(file) => token_in(&file)?,
                None => None,
            },
        };
        let offline = on("HF_HUB_OFFLINE") || on("TRANSFORMERS_OFFLINE");
        let (pause, patience) = (Duration::from_secs(1), Duration::from_secs(30));
        Ok(Self { endpoint, cache, offline, token, pause, patience })
    }
}

/// A path with `~` at its beginning for the home folder.
fn expand(path: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

fn endpoint(text: &str) -> Result<String> {
    let text = text.trim_end_matches('/');
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    let plain = |b: u8| b.is_ascii_graphic() && !b"?#@\\\"".contains(&b);
    if host.is_empty() || host.starts_with('/') || !host.bytes().all(plain) {
        let problem = format!("`{text}` is no address such as {ENDPOINT}");
        return Err(Error::Setting { name: "HF_ENDPOINT", problem });
    }
    Ok(text.to_owned())
}

fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str())
}

fn token_in(file: &Path) -> Result<Option<Token>> {
    match std::fs::read_to_string(file) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => Token::new(&text).map(Some),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(Error::io("read", file, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(vars: &[(&str, &str)]) -> Result<Settings> {
        let find = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        Settings::from_vars(find, Some("/home-of/ann".into()))
    }

    fn cache(vars: &[(&str, &str)]) -> PathBuf {
        with(vars).unwrap().cache
    }

    #[test]
    fn the_cache_is_where_other_tools_look_for_it() {
        assert_eq!(cache(&[]), Path::new("/home-of/ann/.cache/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "~/h")]), Path::new("/home-of/ann/h/hub"));
        assert_eq!(cache(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(cache(&[("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", "/old")]), Path::new("/old"));
        let none = Settings::from_vars(|_| None, None).unwrap_err();
        assert!(matches!(none, Error::Setting { name: "HF_HUB_CACHE", .. }), "{none}");
    }

    #[test]
    fn the_endpoint_is_an_address() {
        assert_eq!(with(&[]).unwrap().endpoint, ENDPOINT);
        assert_eq!(with(&[("HF_ENDPOINT", "http://localhost:80/hub/")]).unwrap().endpoint, "http://localhost:80/hub");
        for bad in
            ["localhost", "ftp://x", "https://", "https:///x", "https://me:secret@x", "https://x?y", "http://a b"]
        {
            assert!(with(&[("HF_ENDPOINT", bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn offline_is_what_other_tools_take_for_true() {
        for (value, offline) in [("1", true), ("yes", true), ("True", true), ("ON", true), ("0", false), ("", false)] {
            assert_eq!(with(&[("HF_HUB_OFFLINE", value)]).unwrap().offline, offline, "{value}");
        }
    }

    #[test]
    fn a_token_is_found_and_never_printed() {
        let settings = with(&[("HF_TOKEN", " hf_secret\n")]).unwrap();
        assert_eq!(settings.token.as_ref().unwrap().header(), "Bearer hf_secret");
        assert!(!format!("{settings:?}").contains("secret"));
        assert_eq!(with(&[("HF_TOKEN", "x"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).unwrap().token, None);
        let bad = with(&[("HF_TOKEN", "two words")]).unwrap_err().to_string();
        assert!(!bad.contains("words"), "{bad}");

        let dir = std::env::temp_dir().join(format!("taipan-hub-token-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("token"), "from-a-file\n").unwrap();
        let home = dir.to_str().unwrap();
        assert_eq!(with(&[("HF_HOME", home)]).unwrap().token, Some(Token("from-a-file".to_owned())));
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(with(&[("HF_HOME", home)]).unwrap().token, None);
    }
}
