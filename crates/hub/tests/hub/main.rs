//! Pulls from a hub of our own, which breaks in all the ways that one can.

mod gguf;
mod server;
mod shards;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use server::{COMMIT, Server, TOKEN, git_hash, sha256};
use taipan_hub::{Cache, Error, Event, Hub, ModelId, Plan, Pulled, Result, Settings, Token};

const CONFIG: &[u8] = br#"{"model_type": "mamba2"}"#;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hub-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("the target folder is writable");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A hub with a model of a small and a large file, and an empty cache.
struct World {
    server: Server,
    folder: Folder,
    weights: Vec<u8>,
}

fn id() -> ModelId {
    "org/model".parse().expect("a name")
}

impl World {
    fn new() -> World {
        let server = Server::start("org/model");
        let weights: Vec<u8> = (0..1_000_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
        {
            let mut state = server.state();
            state.small.insert("config.json".to_owned(), CONFIG.to_vec());
            state.small.insert("README.md".to_owned(), b"not needed".to_vec());
            state.large.insert("model.safetensors".to_owned(), weights.clone());
        }
        World { server, folder: Folder::new(), weights }
    }

    fn settings(&self) -> Settings {
        Settings {
            endpoint: self.server.endpoint.clone(),
            cache: self.folder.0.clone(),
            offline: false,
            token: None,
            pause: Duration::from_millis(1),
            patience: Duration::from_secs(2),
        }
    }

    fn hub(&self) -> Hub {
        Hub::new(self.settings())
    }

    fn pull(&self) -> Result<Pulled> {
        pull(&self.hub())
    }

    fn blob(&self, name: &str) -> PathBuf {
        self.folder.0.join("models--org--model/blobs").join(name)
    }

    fn partial(&self) -> PathBuf {
        self.blob(&format!("{}.incomplete", sha256(&self.weights)))
    }

    /// The ranges of the weights that were asked for.
    fn ranges(&self) -> Vec<Option<String>> {
        self.server.seen().into_iter().filter(|s| s.host == "storage").map(|s| s.range).collect()
    }

    fn is_whole(&self, pulled: &Pulled) {
        assert_eq!(fs::read(pulled.path.join("model.safetensors")).expect("it is there"), self.weights);
        assert_eq!(fs::read(pulled.path.join("config.json")).expect("it is there"), CONFIG);
        assert_eq!(self.hub().cache().find(&id()), Some(pulled.path.clone()));
        assert!(!self.partial().exists());
    }
}

fn pull(hub: &Hub) -> Result<Pulled> {
    hub.pull(&hub.plan(&id())?, &mut |_| ControlFlow::Continue(()))
}

#[test]
fn a_pull_makes_the_layout_of_other_tools() {
    let world = World::new();
    assert_eq!(world.hub().cache().find(&id()), None);
    let pulled = world.pull().unwrap();
    world.is_whole(&pulled);
    let bytes = (CONFIG.len() + world.weights.len()) as u64;
    assert_eq!((pulled.bytes, pulled.fetched), (bytes, bytes));
    let repo = world.folder.0.join("models--org--model");
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(pulled.path, repo.join("snapshots").join(COMMIT));
    assert_eq!(fs::read(world.blob(&git_hash(CONFIG))).unwrap(), CONFIG);
    assert!(!pulled.path.join("README.md").exists());
    #[cfg(unix)]
    {
        let link = fs::read_link(pulled.path.join("model.safetensors")).unwrap();
        assert_eq!(link, Path::new("../../blobs").join(sha256(&world.weights)));
    }
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let world = World::new();
    world.pull().unwrap();
    world.server.seen();
    let again = world.pull().unwrap();
    assert_eq!(again.fetched, 0);
    assert!(world.server.seen().iter().all(|s| s.method == "HEAD" || s.path.starts_with("/api/")));
    // A new commit with the same weights: only what changed comes.
    let config = br#"{"model_type": "mamba2", "new": true}"#;
    world.server.state().small.insert("config.json".to_owned(), config.to_vec());
    world.server.state().commit = "f".repeat(40);
    let newer = world.pull().unwrap();
    assert_eq!(newer.fetched, config.len() as u64);
    assert_eq!(world.hub().cache().find(&id()), Some(newer.path));
    let pinned = format!("org/model@{COMMIT}").parse().unwrap();
    assert_eq!(world.hub().cache().find(&pinned), Some(again.path));
}

#[test]
fn the_token_is_for_the_hub_alone() {
    let world = World::new();
    world.server.state().private = true;
    world.server.state().relative = true;
    let token = Some(Token::new(TOKEN).unwrap());
    let pulled = pull(&Hub::new(Settings { token, ..world.settings() })).unwrap();
    world.is_whole(&pulled);
    let seen = world.server.seen();
    assert!(seen.iter().any(|s| s.path.starts_with("/hidden/")), "{seen:#?}");
    for request in &seen {
        let expected = (request.host == "hub").then(|| format!("Bearer {TOKEN}"));
        assert_eq!(request.token, expected, "{request:?}");
    }
    assert!(seen.iter().any(|s| s.host == "storage"));
}

#[test]
fn without_a_token_a_private_model_is_denied_and_with_a_wrong_one_too() {
    let world = World::new();
    world.server.state().private = true;
    let error = world.pull().unwrap_err();
    assert!(matches!(&error, Error::Denied { token: false, gate: None, .. }), "{error}");
    assert_eq!(error.to_string(), "the hub denies access to org/model: Invalid username or password.");
    assert!(error.hint().unwrap().contains("needs HF_TOKEN"));
    let token = Some(Token::new("hf_other").unwrap());
    let error = pull(&Hub::new(Settings { token, ..world.settings() })).unwrap_err();
    assert!(matches!(&error, Error::Denied { token: true, .. }), "{error}");
    assert!(!format!("{error:?} {error} {:?}", error.hint()).contains("hf_other"));
}

#[test]
fn a_gate_is_named() {
    let world = World::new();
    world.server.state().gated = true;
    let error = world.pull().unwrap_err();
    assert!(error.to_string().ends_with(": Access to this model is restricted."), "{error}");
    assert!(error.hint().unwrap().contains(&format!("{}/org/model", world.server.endpoint)), "{:?}", error.hint());
}

#[test]
fn what_does_not_exist_is_said_to_be_missing() {
    let world = World::new();
    let hub = world.hub();
    for name in ["org/other", "org/model@nowhere"] {
        let error = hub.plan(&name.parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), format!("the hub has no {name}: Repository not found"));
        assert!(matches!(error, Error::NotFound { .. }));
    }
    world.server.state().listed.push("tokenizer.json".to_owned());
    let error = world.pull().unwrap_err();
    assert_eq!(error.to_string(), "the hub has no tokenizer.json in org/model");
    assert_eq!(hub.cache().find(&id()), None);
}

#[test]
fn revisions_have_refs_of_their_own() {
    let world = World::new();
    let hub = world.hub();
    let request: ModelId = "org/model@refs/pr/1".parse().unwrap();
    let pulled = hub.pull(&hub.plan(&request).unwrap(), &mut |_| ControlFlow::Continue(())).unwrap();
    let path = world.folder.0.join("models--org--model/refs/refs/pr/1");
    assert_eq!(fs::read_to_string(path).unwrap(), COMMIT);
    assert_eq!(hub.cache().find(&request), Some(pulled.path));
    assert_eq!(hub.cache().find(&id()), None);
}

#[test]
fn a_connection_that_breaks_is_gone_on_with() {
    let world = World::new();
    world.server.state().breaks = vec![300_000, 0, 500_000];
    let mut broken = 0;
    let hub = world.hub();
    let mut watch = |event: Event<'_>| {
        broken += u32::from(matches!(event, Event::Broken { .. }));
        ControlFlow::Continue(())
    };
    let pulled = hub.pull(&hub.plan(&id()).unwrap(), &mut watch).unwrap();
    world.is_whole(&pulled);
    assert_eq!(broken, 3);
    let range = |first: usize| Some(format!("bytes={first}-"));
    assert_eq!(world.ranges(), [None, range(300_000), range(300_000), range(800_000)]);
}

#[test]
fn a_download_that_was_given_up_is_gone_on_with_by_the_next() {
    let world = World::new();
    world.server.state().breaks = vec![300_000, 0, 0, 0, 0];
    let error = world.pull().unwrap_err();
    assert!(matches!(&error, Error::Broken { have: 300_000, size: 4_000_000, .. }), "{error:?}");
    assert_eq!(fs::metadata(world.partial()).unwrap().len(), 300_000);
    assert_eq!(world.hub().cache().find(&id()), None);
    world.server.seen();
    let pulled = world.pull().unwrap();
    world.is_whole(&pulled);
    assert_eq!(pulled.fetched, 3_700_000);
    assert_eq!(world.ranges(), [Some("bytes=300000-".to_owned())]);
}

#[test]
fn a_caller_who_stops_leaves_what_came() {
    let world = World::new();
    let hub = world.hub();
    let mut watch = |event: Event<'_>| match event {
        Event::Bytes { done } if done > 1_000_000 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let error = hub.pull(&hub.plan(&id()).unwrap(), &mut watch).unwrap_err();
    assert!(matches!(error, Error::Stopped));
    let have = fs::metadata(world.partial()).unwrap().len();
    assert!((900_000..2_000_000).contains(&have), "{have}");
    let pulled = world.pull().unwrap();
    world.is_whole(&pulled);
    assert_eq!(pulled.fetched, 4_000_000 - have);
}

#[test]
fn a_server_that_stalls_is_not_waited_for() {
    let world = World::new();
    world.server.state().stalls = Some(100_000);
    let hub = Hub::new(Settings { patience: Duration::from_millis(300), ..world.settings() });
    let mut watch = |event: Event<'_>| {
        if matches!(event, Event::Broken { .. }) {
            world.server.state().stalls = None;
        }
        ControlFlow::Continue(())
    };
    let pulled = hub.pull(&hub.plan(&id()).unwrap(), &mut watch).unwrap();
    world.is_whole(&pulled);
    assert_eq!(world.ranges(), [None, Some("bytes=100000-".to_owned())]);
}

#[test]
fn a_server_without_ranges_sends_everything_anew() {
    let world = World::new();
    world.server.state().breaks = vec![300_000];
    world.server.state().no_ranges = true;
    let pulled = world.pull().unwrap();
    world.is_whole(&pulled);
    assert_eq!(pulled.fetched, 4_300_000 + CONFIG.len() as u64);
    // One that never comes further than before is given up.
    fs::remove_file(world.blob(&sha256(&world.weights))).unwrap();
    world.server.state().breaks = vec![300_000; 100];
    assert!(matches!(world.pull().unwrap_err(), Error::Broken { have: 300_000, .. }));
}

#[test]
fn a_wrong_hash_leaves_nothing() {
    let world = World::new();
    world.server.state().damaged = Some("model.safetensors".to_owned());
    let error = world.pull().unwrap_err();
    let Error::WrongHash { expected, found, kind: "SHA-256", .. } = &error else { panic!("{error}") };
    assert_eq!(*expected, sha256(&world.weights));
    assert_ne!(found, expected);
    assert!(!world.partial().exists() && !world.blob(expected).exists());
    assert_eq!(world.hub().cache().find(&id()), None);
    world.server.state().damaged = None;
    world.is_whole(&world.pull().unwrap());
}

#[test]
fn no_more_is_taken_than_was_announced() {
    let world = World::new();
    world.server.state().claimed.insert("model.safetensors".to_owned(), 3_000_000);
    let error = world.pull().unwrap_err();
    assert_eq!(error.to_string(), "model.safetensors: more bytes came than were announced");
    assert!(fs::metadata(world.partial()).unwrap().len() <= 3_000_000);
}

#[test]
fn a_partial_file_of_something_else_is_thrown_away() {
    let world = World::new();
    fs::create_dir_all(world.partial().parent().unwrap()).unwrap();
    for bytes in [vec![7; 300_000], vec![7; 4_000_000], vec![7; 4_000_001]] {
        fs::write(world.partial(), bytes).unwrap();
        world.is_whole(&world.pull().unwrap());
        fs::remove_dir_all(world.folder.0.join("models--org--model/snapshots")).unwrap();
        fs::remove_file(world.blob(&sha256(&world.weights))).unwrap();
    }
}

#[test]
fn a_listing_that_leads_elsewhere_is_refused() {
    let world = World::new();
    world.server.state().listed.push("../../outside.safetensors".to_owned());
    let error = world.pull().unwrap_err();
    assert!(matches!(&error, Error::UnsafeName { file, .. } if file.starts_with("..")), "{error}");
    assert_eq!(fs::read_dir(&world.folder.0).unwrap().count(), 0);
}

#[test]
fn a_bare_listing_leaves_it_to_the_files_to_say_what_they_are() {
    let world = World::new();
    world.server.state().bare = true;
    world.is_whole(&world.pull().unwrap());
    world.server.state().bare = false;
    world.server.state().damaged = Some("model.safetensors".to_owned());
    // In the cache already: what is stored elsewhere is of no interest.
    world.is_whole(&world.pull().unwrap());
}

#[test]
fn a_busy_hub_is_asked_again_and_not_for_ever() {
    let world = World::new();
    world.server.state().busy = 3;
    world.is_whole(&world.pull().unwrap());
    world.server.state().busy = 100;
    let error = world.hub().plan(&id()).unwrap_err();
    assert!(matches!(error, Error::Status { status: 503, .. }), "{error}");
    assert_eq!(world.server.state().busy, 96);
}

#[test]
fn nobody_there_is_a_network_error() {
    let world = World::new();
    let settings = Settings { endpoint: "http://127.0.0.1:1".to_owned(), ..world.settings() };
    let error = Hub::new(settings).plan(&id()).unwrap_err();
    assert!(matches!(error, Error::Network { .. }) && error.hint().unwrap().contains("HF_ENDPOINT"), "{error}");
}

#[test]
fn offline_nothing_is_asked() {
    let world = World::new();
    let plan = world.hub().plan(&id()).unwrap();
    world.server.seen();
    let offline = Hub::new(Settings { offline: true, ..world.settings() });
    assert!(matches!(offline.plan(&id()), Err(Error::Offline { .. })));
    assert!(matches!(offline.pull(&plan, &mut |_| ControlFlow::Continue(())), Err(Error::Offline { .. })));
    assert_eq!(world.server.seen(), []);
    let pulled = world.pull().unwrap();
    assert_eq!(offline.cache().find(&id()), Some(pulled.path));
}

#[test]
fn another_program_that_fetches_the_same_file_is_waited_for() {
    let world = World::new();
    let lock = world.folder.0.join(".locks/models--org--model").join(format!("{}.lock", sha256(&world.weights)));
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let mut held = Some(fs::File::create(&lock).unwrap());
    held.as_ref().unwrap().try_lock().unwrap();
    let hub = world.hub();
    let mut waited = 0;
    let mut watch = |event: Event<'_>| {
        if matches!(event, Event::Waiting { file: "model.safetensors" }) {
            waited += 1;
            held = None;
        }
        ControlFlow::Continue(())
    };
    world.is_whole(&hub.pull(&hub.plan(&id()).unwrap(), &mut watch).unwrap());
    assert_eq!(waited, 1);
}

#[test]
fn headers_come_without_the_weights() {
    let world = World::new();
    let header = format!("{{\"a\": {}}}", " ".repeat(400_000));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    let end = file.len();
    file.extend(vec![0; 2_000_000]);
    world.server.state().large.insert("model.safetensors".to_owned(), file.clone());
    let hub = world.hub();
    let plan: Plan = hub.plan(&id()).unwrap();
    for no_ranges in [false, true] {
        world.server.state().no_ranges = no_ranges;
        let start = hub.header(&plan, plan.weights().next().unwrap()).unwrap();
        assert_eq!(start, file[..end]);
        assert_eq!(hub.read(&plan, "config.json").unwrap(), CONFIG);
    }
    world.server.state().large.insert("model.safetensors".to_owned(), vec![0xff; 1000]);
    let error = hub.header(&plan, plan.weights().next().unwrap()).unwrap_err();
    assert!(matches!(error, Error::Server { .. }), "{error}");
    // Nothing was kept.
    assert_eq!(fs::read_dir(&world.folder.0).unwrap().count(), 0);
}

#[test]
fn models_are_listed_and_removed() {
    let world = World::new();
    let cache = Cache::new(world.folder.0.clone());
    assert_eq!(cache.list().unwrap(), []);
    assert!(matches!(cache.remove(&id()), Err(Error::NotCached { .. })));
    world.pull().unwrap();
    world.server.state().commit = "f".repeat(40);
    let config = br#"{"model_type": "other"}"#;
    world.server.state().small.insert("config.json".to_owned(), config.to_vec());
    world.pull().unwrap();
    fs::write(world.folder.0.join("version.txt"), "1").unwrap();
    fs::create_dir_all(world.folder.0.join("datasets--a--b")).unwrap();
    let models = cache.list().unwrap();
    assert_eq!(models.len(), 1);
    assert_eq!((&models[0].id, models[0].snapshots.len()), (&id(), 2));
    let (new, old) = (&models[0].snapshots[0], &models[0].snapshots[1]);
    assert_eq!(
        (new.refs.clone(), new.complete, new.commit.as_str()),
        (vec!["main".to_owned()], true, &"f".repeat(40)[..])
    );
    assert_eq!((old.refs.len(), old.commit.as_str()), (0, COMMIT));
    let shared = world.weights.len() as u64;
    assert_eq!(models[0].bytes, shared + CONFIG.len() as u64 + config.len() as u64);
    // The weights are also those of the other commit.
    let freed = cache.remove(&format!("org/model@{COMMIT}").parse().unwrap()).unwrap();
    assert_eq!(freed, CONFIG.len() as u64);
    assert!(cache.find(&id()).is_some());
    assert!(matches!(cache.remove(&"org/model@gone".parse().unwrap()), Err(Error::NotCached { .. })));
    assert_eq!(cache.remove(&id()).unwrap(), shared + config.len() as u64);
    assert_eq!(cache.list().unwrap(), []);
    assert!(world.folder.0.join("datasets--a--b").exists());
}
