//! Models that are there as GGUF files.

use std::ops::ControlFlow;

use taipan_hub::{Error, Hub, ModelId, Pulled, Result};

use crate::World;

const FILES: [&str; 2] = ["m-Q4_0.gguf", "sub/m-Q8_0.gguf"];

/// A hub with so many of them, and a config that says nothing of weights.
fn world(count: usize) -> World {
    let world = World::new();
    let mut state = world.server.state();
    state.large.clear();
    for (i, name) in FILES.iter().take(count).enumerate() {
        state.large.insert((*name).to_owned(), vec![i as u8; 300_000]);
    }
    drop(state);
    world
}

fn pull(hub: &Hub, name: &str) -> Result<Pulled> {
    let id: ModelId = name.parse()?;
    hub.pull(&hub.plan(&id)?, &mut |_| ControlFlow::Continue(()))
}

#[test]
fn the_only_file_is_the_model() {
    let world = world(1);
    let pulled = pull(&world.hub(), "org/model").unwrap();
    assert!(pulled.path.ends_with(FILES[0]) && pulled.path.is_file(), "{pulled:?}");
    assert_eq!((pulled.bytes, pulled.fetched), (300_000, 300_000));
    // Nothing else is needed, and the file is found by both names.
    let folder = pulled.path.parent().unwrap();
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
    let find = |name: &str| world.hub().cache().find(&name.parse().unwrap());
    assert_eq!(find("org/model"), Some(pulled.path.clone()));
    assert_eq!(find("org/model:m-Q4_0.gguf"), Some(pulled.path.clone()));
    assert_eq!(find("org/model:m-Q8_0.gguf"), None);
    let listed = world.hub().cache().list().unwrap();
    assert!(listed[0].snapshots[0].complete);
    assert_eq!(listed[0].snapshots[0].gguf, [FILES[0]]);
}

#[test]
fn of_several_files_one_is_named() {
    let world = world(2);
    let hub = world.hub();
    for name in ["org/model", "org/model:m-F16.gguf"] {
        let error = pull(&hub, name).unwrap_err();
        assert!(matches!(&error, Error::SeveralFiles { files, .. } if files == &FILES), "{error}");
        assert!(error.to_string().contains("m-Q4_0.gguf, sub/m-Q8_0.gguf"), "{error}");
        assert_eq!(error.hint().as_deref(), Some("name one of them, as in org/model:m-Q4_0.gguf"));
    }
    assert_eq!(world.hub().cache().list().unwrap(), []);
    let pulled = pull(&hub, "org/model:sub/m-Q8_0.gguf").unwrap();
    assert!(pulled.path.ends_with("sub/m-Q8_0.gguf"), "{pulled:?}");
    assert_eq!(std::fs::read(&pulled.path).unwrap(), vec![1; 300_000]);
    let find = |name: &str| world.hub().cache().find(&name.parse().unwrap());
    // What is here is what is meant, until there is more.
    assert_eq!(find("org/model"), Some(pulled.path.clone()));
    let other = pull(&hub, "org/model@main:m-Q4_0.gguf").unwrap();
    assert_eq!(find("org/model"), other.path.parent().map(std::path::Path::to_owned));
    assert_eq!(find("org/model:m-Q4_0.gguf"), Some(other.path));
    assert_eq!(find("org/model:sub/m-Q8_0.gguf"), Some(pulled.path));
    assert_eq!(hub.cache().list().unwrap()[0].snapshots[0].gguf, FILES);
    assert_eq!(hub.cache().remove(&"org/model".parse().unwrap()).unwrap(), 600_000);
}

#[test]
fn the_beginning_of_a_file_comes_without_the_rest() {
    let world = world(1);
    let hub = world.hub();
    let plan = hub.plan(&"org/model".parse().unwrap()).unwrap();
    let file = plan.gguf().unwrap();
    for no_ranges in [false, true] {
        world.server.state().no_ranges = no_ranges;
        assert_eq!(hub.beginning(&plan, file, 1000).unwrap(), vec![0; 1000]);
        assert_eq!(hub.beginning(&plan, file, 1 << 30).unwrap().len(), 300_000);
    }
}
