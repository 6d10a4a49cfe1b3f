//! Requests to a hub: redirects, retries, and who gets to see the token.

use std::io::Read;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::{HeaderMap, Response};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::error::{Error, Result};
use crate::id::ModelId;
use crate::settings::{Settings, Token};

/// What stays as it is in a part of a path.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Redirects in a row.
const HOPS: usize = 8;

/// Times that a request is tried.
pub(crate) const TRIES: u32 = 4;

/// Most bytes of an answer that is read as a whole.
const MOST: u64 = 64 << 20;

/// Most bytes of what a server says about an error.
const MOST_SAID: u64 = 2000;

pub(crate) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<Token>,
    pause: Duration,
}

/// What the hub says of a file without sending it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Meta {
    pub(crate) etag: Option<String>,
    pub(crate) size: Option<u64>,
    pub(crate) commit: Option<String>,
}

/// The part of a file that is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    From(u64),
    /// First and last byte.
    Between(u64, u64),
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> Self {
        let config = Agent::config_builder()
            // Redirects are followed here, where it is known which host may see the token.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("taipan/", env!("CARGO_PKG_VERSION")))
            .accept("*/*")
            // Sizes and hashes are those of the file, not of something packed.
            .accept_encoding("identity")
            .timeout_connect(Some(settings.patience))
            .timeout_recv_response(Some(settings.patience))
            .timeout_per_read(Some(settings.patience))
            .tls_config(TlsConfig::builder().root_certs(roots()).build())
            .build();
        let (endpoint, token) = (settings.endpoint.clone(), settings.token.clone());
        Self { agent: config.new_agent(), endpoint, token, pause: settings.pause }
    }

    /// Where a file of a commit is.
    pub(crate) fn file_url(&self, id: &ModelId, commit: &str, file: &str) -> String {
        let parts: Vec<String> = file.split('/').map(encode).collect();
        format!("{}/{}/resolve/{}/{}", self.endpoint, id.repo(), encode(commit), parts.join("/"))
    }

    /// What the hub knows of a model.
    pub(crate) fn listing(&self, id: &ModelId) -> Result<Vec<u8>> {
        let (repo, revision) = (id.repo(), encode(id.revision()));
        let url = format!("{}/api/models/{repo}/revision/{revision}?blobs=true", self.endpoint);
        self.retrying(&mut || read_all(self.expect(self.get(&url, None)?, &[200], &id.to_string(), id)?, &url))
    }

    /// What the hub says of a file. The host that stores it is not asked.
    pub(crate) fn head(&self, url: &str, what: &str, id: &ModelId) -> Result<Meta> {
        self.retrying(&mut || {
            let mut meta = Meta::default();
            let mut at = url.to_owned();
            for _ in 0..HOPS {
                let response = self.send("HEAD", &at, None)?;
                note_meta(&mut meta, response.headers());
                let Some(next) = self.redirect(&at, &response)? else {
                    let response = self.expect(response, &[200], what, id)?;
                    let length = response.headers().get("content-length").and_then(|v| v.to_str().ok()?.parse().ok());
                    meta.size = meta.size.or(length);
                    return Ok(meta);
                };
                if origin(&next) != origin(&at) {
                    return Ok(meta);
                }
                at = next;
            }
            Err(too_many(url))
        })
    }

    /// A file or a part of it, as far as the first byte: reading on is the caller's, and so is trying again.
    pub(crate) fn open(&self, url: &str, part: Option<Part>, what: &str, id: &ModelId) -> Result<Response<Body>> {
        let response = self.get(url, part)?;
        self.expect(response, &[200, 206, 416], what, id)
    }

    fn get(&self, url: &str, part: Option<Part>) -> Result<Response<Body>> {
        let mut at = url.to_owned();
        for _ in 0..HOPS {
            let response = self.send("GET", &at, part)?;
            match self.redirect(&at, &response)? {
                None => return Ok(response),
                Some(next) => at = next,
            }
        }
        Err(too_many(url))
    }

    fn send(&self, method: &str, url: &str, part: Option<Part>) -> Result<Response<Body>> {
        let mut request = if method == "HEAD" { self.agent.head(url) } else { self.agent.get(url) };
        request = match part {
            None => request,
            Some(Part::From(first)) => request.header("Range", format!("bytes={first}-")),
            Some(Part::Between(first, last)) => request.header("Range", format!("bytes={first}-{last}")),
        };
        if let Some(token) = self.token.as_ref().filter(|_| origin(url) == origin(&self.endpoint)) {
            request = request.header("Authorization", token.header());
        }
        request.call().map_err(|e| Error::Network { url: shown(url), message: e.to_string() })
    }

    /// Where an answer sends us.
    fn redirect(&self, url: &str, response: &Response<Body>) -> Result<Option<String>> {
        if !response.status().is_redirection() {
            return Ok(None);
        }
        let location = response.headers().get("location").and_then(|v| v.to_str().ok());
        let fail = |problem: &str| Error::Server { what: shown(url), problem: problem.to_owned() };
        follow(url, location.unwrap_or_default()).map(Some).map_err(fail)
    }

    /// An answer with one of these statuses, or the error that another one is.
    fn expect(&self, response: Response<Body>, statuses: &[u16], what: &str, id: &ModelId) -> Result<Response<Body>> {
        let status = response.status().as_u16();
        if statuses.contains(&status) {
            return Ok(response);
        }
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (code, said) = (header("x-error-code"), header("x-error-message"));
        let gated = code.as_deref() == Some("GatedRepo");
        let message = said.unwrap_or_else(|| said_in_body(response));
        Err(match status {
            401 | 403 => {
                let gate = gated.then(|| format!("{}/{}", self.endpoint, id.repo()));
                Error::Denied { what: what.to_owned(), token: self.token.is_some(), gate, message }
            }
            404 => Error::NotFound { what: what.to_owned(), message },
            _ => Error::Status { url: shown(&self.endpoint), status, message },
        })
    }

    /// Asks again where that may help.
    pub(crate) fn retrying<T>(&self, ask: &mut dyn FnMut() -> Result<T>) -> Result<T> {
        let mut tries = 0;
        loop {
            match ask() {
                Err(e) if passes(&e) && tries + 1 < TRIES => self.wait(tries),
                other => return other,
            }
            tries += 1;
        }
    }

    pub(crate) fn wait(&self, tries: u32) {
        std::thread::sleep(self.pause * 2u32.pow(tries.min(5)));
    }
}

/// The address to which one leads from another.
fn follow(url: &str, location: &str) -> Result<String, &'static str> {
    let scheme = url.split_once(':').map_or("https", |(scheme, _)| scheme);
    let next = match location {
        whole if whole.starts_with("https://") || whole.starts_with("http://") => whole.to_owned(),
        host if host.starts_with("//") => format!("{scheme}:{host}"),
        path if path.starts_with('/') => format!("{}{path}", origin(url)),
        _ => return Err("a redirect to what is no address"),
    };
    if scheme == "https" && !next.starts_with("https:") {
        return Err("a redirect from https to http");
    }
    Ok(next)
}

/// Whether the same request may succeed a moment later.
pub(crate) fn passes(error: &Error) -> bool {
    match error {
        Error::Network { .. } => true,
        Error::Status { status, .. } => *status == 429 || *status == 408 || *status >= 500,
        _ => false,
    }
}

/// Whom the system trusts, which its owner may have extended.
#[cfg(any(windows, target_vendor = "apple"))]
fn roots() -> RootCerts {
    RootCerts::PlatformVerifier
}

/// Whom the system trusts, which its owner may have extended; where it says nothing, as in a small container, the list
/// that comes with rustls.
#[cfg(not(any(windows, target_vendor = "apple")))]
fn roots() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() {
        return RootCerts::WebPki;
    }
    found.iter().map(|cert| ureq::tls::Certificate::from_der(cert).to_owned()).into()
}

fn note_meta(meta: &mut Meta, headers: &HeaderMap) {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    // The tag of the file itself goes before that of what points to it.
    let etag = text("x-linked-etag").or_else(|| text("etag"));
    let linked = text("x-linked-size").and_then(|v| v.parse().ok());
    meta.etag = meta.etag.take().or_else(|| Some(etag?.trim_start_matches("W/").trim_matches('"').to_owned()));
    meta.size = meta.size.or(linked);
    meta.commit = meta.commit.take().or_else(|| text("x-repo-commit").map(str::to_owned));
}

fn too_many(url: &str) -> Error {
    Error::Server { what: shown(url), problem: format!("more than {HOPS} redirects") }
}

pub(crate) fn read_all(response: Response<Body>, url: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = response.into_body().into_reader().take(MOST + 1).read_to_end(&mut bytes);
    read.map_err(|e| Error::Network { url: shown(url), message: e.to_string() })?;
    if bytes.len() as u64 > MOST {
        return Err(Error::Server { what: shown(url), problem: format!("an answer of more than {MOST} bytes") });
    }
    Ok(bytes)
}

/// The words in the body of an error, where they are a text and no page.
fn said_in_body(response: Response<Body>) -> String {
    let mut text = String::new();
    let read = response.into_body().into_reader().take(MOST_SAID).read_to_string(&mut text);
    let json: Option<serde_json::Value> = read.ok().and_then(|_| serde_json::from_str(&text).ok());
    let text = json.as_ref().and_then(|json| json["error"].as_str()).unwrap_or(&text);
    let plain = !text.trim_start().starts_with('<') && !text.contains('\n');
    if plain { text.trim().chars().filter(|c| !c.is_control()).take(300).collect() } else { String::new() }
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '?', '#', '\\']).map_or(url.len(), |at| host + at);
    &url[..end]
}

/// An address for people: a query may hold a signature.
pub(crate) fn shown(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

fn encode(part: &str) -> String {
    utf8_percent_encode(part, PART).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_apart() {
        assert_eq!(origin("https://a.b:80/c?d"), "https://a.b:80");
        assert_eq!(origin("https://a.b?c"), "https://a.b");
        for other in ["http://a.b/c", "https://a.b:81/c", "https://a.b.c/", "https://a.b@x/c"] {
            assert_ne!(origin(other), "https://a.b");
        }
        assert_eq!(shown("https://a/b?signature=secret"), "https://a/b");
    }

    #[test]
    fn redirects_lead_to_addresses_that_are_as_safe() {
        let from = |location| follow("https://a.b/c?d", location);
        assert_eq!(from("https://x/y").unwrap(), "https://x/y");
        assert_eq!(from("//x/y").unwrap(), "https://x/y");
        assert_eq!(from("/y").unwrap(), "https://a.b/y");
        assert_eq!(from("http://a.b/y"), Err("a redirect from https to http"));
        assert!(from("file:///etc/passwd").is_err() && from("y").is_err() && from("").is_err());
        assert_eq!(follow("http://a.b/c", "http://x/y").unwrap(), "http://x/y");
    }

    #[test]
    fn the_tag_of_the_file_goes_before_that_of_its_pointer() {
        let mut headers = HeaderMap::new();
        headers.insert("etag", "W/\"1\"".parse().unwrap());
        let mut meta = Meta::default();
        note_meta(&mut meta, &headers);
        assert_eq!(meta.etag.as_deref(), Some("1"));
        headers.insert("x-linked-etag", "\"2\"".parse().unwrap());
        headers.insert("x-linked-size", "7".parse().unwrap());
        let mut meta = Meta::default();
        note_meta(&mut meta, &headers);
        assert_eq!((meta.etag.as_deref(), meta.size), (Some("2"), Some(7)));
    }

    #[test]
    fn names_become_parts_of_an_address() {
        assert_eq!(encode("refs/pr 1?"), "refs%2Fpr%201%3F");
    }
}
