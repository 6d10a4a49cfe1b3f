//! A hub to test against: a listing, files that it serves itself, and large ones that another host serves.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(crate) const TOKEN: &str = "hf_secret";

/// What the two hosts have, do and have seen.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) repo: String,
    pub(crate) commit: String,
    /// Small files by name.
    pub(crate) small: BTreeMap<String, Vec<u8>>,
    /// Large ones, which the storage host serves.
    pub(crate) large: BTreeMap<String, Vec<u8>>,
    /// Sizes that are announced of large files instead of their own.
    pub(crate) claimed: BTreeMap<String, u64>,
    /// Names that the listing has besides.
    pub(crate) listed: Vec<String>,
    /// Whether the token is needed.
    pub(crate) private: bool,
    /// Whether the model is behind a gate.
    pub(crate) gated: bool,
    /// Answers of the hub that are 503 before it works.
    pub(crate) busy: usize,
    /// The storage host breaks the connection after so many bytes, each of these once.
    pub(crate) breaks: Vec<usize>,
    /// The storage host sends this many bytes and then nothing, without ending.
    pub(crate) stalls: Option<usize>,
    /// The storage host does not know ranges.
    pub(crate) no_ranges: bool,
    /// The storage host sends the bytes of this file with one wrong.
    pub(crate) damaged: Option<String>,
    /// The hub leaves out hashes and sizes of the listing.
    pub(crate) bare: bool,
    /// The hub sends small files by way of another address of its own.
    pub(crate) relative: bool,
    pub(crate) seen: Vec<Seen>,
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) host: &'static str,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
}

pub(crate) struct Server {
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// Serves until the test ends.
    pub(crate) fn start(repo: &str) -> Server {
        let state = State { repo: repo.to_owned(), commit: COMMIT.to_owned(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let listen = || TcpListener::bind("127.0.0.1:0").expect("there are free ports");
        let (hub, storage) = (listen(), listen());
        let port = |listener: &TcpListener| listener.local_addr().expect("it is bound").port();
        let (endpoint, elsewhere) =
            (format!("http://127.0.0.1:{}", port(&hub)), format!("http://127.0.0.1:{}", port(&storage)));
        for (listener, host) in [(hub, "hub"), (storage, "storage")] {
            let (state, elsewhere) = (state.clone(), elsewhere.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (state, elsewhere) = (state.clone(), elsewhere.clone());
                    std::thread::spawn(move || serve(&stream, host, &state, &elsewhere));
                }
            });
        }
        Server { endpoint, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }

    /// What was asked for since the last time.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state().seen)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn git_hash(bytes: &[u8]) -> String {
    hex(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// An answer: status, headers, body, and after how many bytes it breaks.
struct Answer {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    end: End,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Whole,
    Break(usize),
    Stall(usize),
}

fn answer(status: &'static str, headers: &[(&'static str, &str)], body: impl Into<Vec<u8>>) -> Answer {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Answer { status, headers, body: body.into(), end: End::Whole }
}

fn serve(mut stream: &TcpStream, host: &'static str, state: &Mutex<State>, elsewhere: &str) {
    let Some(seen) = read_request(stream, host) else { return };
    let answer = {
        let mut state = state.lock().expect("no test panics with it");
        state.seen.push(seen.clone());
        if host == "hub" { hub(&mut state, &seen, elsewhere) } else { storage(&mut state, &seen) }
    };
    let mut head =
        format!("HTTP/1.1 {}\r\nContent-Length: {}\r\nConnection: close\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let count = match answer.end {
        End::Whole => answer.body.len(),
        End::Break(count) | End::Stall(count) => count.min(answer.body.len()),
    };
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    if seen.method != "HEAD" {
        let _ = stream.write_all(&answer.body[..count]);
    }
    if matches!(answer.end, End::Stall(_)) {
        let _ = stream.flush();
        std::thread::sleep(Duration::from_secs(600));
    }
}

fn read_request(stream: &TcpStream, host: &'static str) -> Option<Seen> {
    let mut lines = BufReader::new(stream.try_clone().ok()?.take(64 << 10)).lines();
    let line = lines.next()?.ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut seen = Seen { host, method, path, range: None, token: None };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => seen.range = Some(value.to_owned()),
            "authorization" => seen.token = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(seen)
}

fn hub(state: &mut State, seen: &Seen, elsewhere: &str) -> Answer {
    if state.busy > 0 {
        state.busy -= 1;
        return answer("503 Service Unavailable", &[], "<html>busy</html>");
    }
    let allowed = seen.token.as_deref() == Some(&format!("Bearer {TOKEN}")[..]);
    if state.private && !allowed {
        return answer("401 Unauthorized", &[], r#"{"error": "Invalid username or password."}"#);
    }
    if state.gated && seen.path.contains("/resolve/") {
        let said = "Access to this model is restricted.";
        return answer("403 Forbidden", &[("X-Error-Code", "GatedRepo"), ("X-Error-Message", said)], "");
    }
    let path = seen.path.split('?').next().unwrap_or_default();
    for revision in ["main", "refs%2Fpr%2F1", &state.commit] {
        if path == format!("/api/models/{}/revision/{revision}", state.repo) {
            return answer("200 OK", &[], listing(state).to_string());
        }
    }
    let prefix = format!("/{}/resolve/{}/", state.repo, state.commit);
    let hidden = path.strip_prefix("/hidden/");
    let Some(name) = path.strip_prefix(&prefix).or(hidden) else {
        let (code, said) = ("RepoNotFound", "Repository not found");
        return answer("404 Not Found", &[("X-Error-Code", code), ("X-Error-Message", said)], "");
    };
    if let Some(bytes) = state.small.get(name) {
        if state.relative && hidden.is_none() {
            return answer("307 Temporary Redirect", &[("Location", &format!("/hidden/{name}"))], "");
        }
        let etag = format!("\"{}\"", git_hash(bytes));
        return answer("200 OK", &[("ETag", &etag), ("X-Repo-Commit", &state.commit)], bytes.clone());
    }
    let Some(bytes) = state.large.get(name) else { return answer("404 Not Found", &[], "Entry not found") };
    let size = state.claimed.get(name).copied().unwrap_or(bytes.len() as u64).to_string();
    let etag = format!("\"{}\"", sha256(bytes));
    let to = format!("{elsewhere}/{name}?signature=x");
    let headers = [
        ("Location", to.as_str()),
        ("X-Linked-Etag", &etag),
        ("X-Linked-Size", &size),
        ("X-Repo-Commit", &state.commit),
        ("ETag", "\"of the pointer\""),
    ];
    answer("302 Found", &headers, "")
}

fn listing(state: &State) -> Value {
    let small = state.small.iter().map(|(name, bytes)| match state.bare {
        true => json!({ "rfilename": name }),
        false => json!({ "rfilename": name, "size": bytes.len(), "blobId": git_hash(bytes) }),
    });
    let size = |name: &String, bytes: &[u8]| state.claimed.get(name).copied().unwrap_or(bytes.len() as u64);
    let large = state.large.iter().map(|(name, bytes)| match state.bare {
        true => json!({ "rfilename": name }),
        false => json!({ "rfilename": name, "size": size(name, bytes), "blobId": git_hash(b"pointer"),
            "lfs": { "sha256": sha256(bytes), "size": size(name, bytes), "pointerSize": 134 } }),
    });
    let listed = state.listed.iter().map(|name| json!({ "rfilename": name }));
    let files: Vec<Value> = small.chain(large).chain(listed).collect();
    json!({ "id": state.repo, "sha": state.commit, "siblings": files })
}

fn storage(state: &mut State, seen: &Seen) -> Answer {
    let name = seen.path.trim_start_matches('/').split('?').next().unwrap_or_default();
    let Some(bytes) = state.large.get(name) else { return answer("404 Not Found", &[], "") };
    let mut bytes = bytes.clone();
    if state.damaged.as_deref() == Some(name) {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }
    let range = seen.range.as_deref().filter(|_| !state.no_ranges).and_then(|r| r.strip_prefix("bytes="));
    let mut reply = match range.and_then(|range| range.split_once('-')) {
        None => answer("200 OK", &[("ETag", "\"of the storage\"")], bytes),
        Some((first, last)) => {
            let first: usize = first.parse().expect("a number");
            let end = last.parse::<usize>().map_or(bytes.len(), |last| (last + 1).min(bytes.len()));
            let range = format!("bytes {first}-{}/{}", end - 1, bytes.len());
            answer("206 Partial Content", &[("Content-Range", &range)], &bytes[first..end])
        }
    };
    if let Some(count) = state.stalls {
        reply.end = End::Stall(count);
    } else if seen.method == "GET" && !state.breaks.is_empty() {
        reply.end = End::Break(state.breaks.remove(0));
    }
    reply
}
