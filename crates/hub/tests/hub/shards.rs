//! Weights in several files.

use std::fs;

use taipan_hub::{Error, Hub, Settings};

use super::server::sha256;
use super::{CONFIG, World, id, pull};

#[test]
fn shards_are_those_of_the_index() {
    let world = World::new();
    let shard = |n: u8| vec![n; 1000];
    let index = |second: &str| {
        let map = serde_json::json!({ "weight_map": { "a": "model-1.safetensors", "b": second, "c": second } });
        map.to_string().into_bytes()
    };
    {
        let mut state = world.server.state();
        state.large =
            [("model-1.safetensors".to_owned(), shard(1)), ("model-2.safetensors".to_owned(), shard(2))].into();
        state.large.insert("pytorch_model.bin".to_owned(), shard(3));
        state.large.insert("stray.safetensors".to_owned(), shard(4));
        state.small.insert("model.safetensors.index.json".to_owned(), index("model-2.safetensors"));
    }
    let hub = world.hub();
    let plan = hub.plan(&id()).unwrap();
    let names: Vec<_> = plan.files.iter().map(|file| file.name.as_str()).collect();
    let expected = ["config.json", "model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"];
    assert_eq!(names, expected);
    let pulled = pull(&hub).unwrap();
    assert_eq!(fs::read(pulled.path.join("model-2.safetensors")).unwrap(), shard(2));
    // A shard that is missing makes the model incomplete.
    fs::remove_file(world.blob(&sha256(&shard(2)))).unwrap();
    assert_eq!(hub.cache().find(&id()), None);
    world.server.state().small.insert("model.safetensors.index.json".to_owned(), index("model-9.safetensors"));
    assert!(matches!(hub.plan(&id()).unwrap_err(), Error::Server { .. }));
}

#[test]
fn without_room_on_the_disk_nothing_is_fetched() {
    let world = World::new();
    let most = u64::MAX / 2;
    world.server.state().claimed.insert("model.safetensors".to_owned(), most);
    let hub = world.hub();
    let plan = hub.plan(&id()).unwrap();
    world.server.seen();
    for error in [hub.check_space(&plan).unwrap_err(), pull(&hub).unwrap_err()] {
        let Error::NoSpace { path, needed, available } = &error else { panic!("{error}") };
        assert_eq!((path, *needed), (&world.folder.0, most + CONFIG.len() as u64));
        assert!(*available < most && *available > 0 && error.hint().unwrap().contains("HF_HUB_CACHE"));
    }
    assert!(!world.folder.0.join("models--org--model").exists());
    // What is there needs no room; a cache that does not exist yet is on the disk of the folder that it will be in.
    fs::create_dir_all(world.partial().parent().unwrap()).unwrap();
    fs::File::create(world.partial()).unwrap().set_len(3_000_000).unwrap();
    world.server.state().claimed.clear();
    let small = hub.plan(&id()).unwrap();
    hub.check_space(&small).unwrap();
    let cache = world.folder.0.join("a/b");
    let elsewhere = Hub::new(Settings { cache, ..world.settings() });
    assert!(matches!(elsewhere.check_space(&plan).unwrap_err(), Error::NoSpace { .. }));
    elsewhere.check_space(&small).unwrap();
}

#[test]
fn shards_of_pytorch_come_as_well() {
    let world = World::new();
    let index =
        |shard: &str| serde_json::json!({ "weight_map": { "a": "pytorch_model-1.bin", "b": shard } }).to_string();
    {
        let mut state = world.server.state();
        let shard = |n: u8| (format!("pytorch_model-{n}.bin"), vec![n; 1000]);
        state.large = [shard(1), shard(2), shard(3)].into();
        state.small.insert("pytorch_model.bin.index.json".to_owned(), index("pytorch_model-2.bin").into_bytes());
    }
    let hub = world.hub();
    let plan = hub.plan(&id()).unwrap();
    let names: Vec<_> = plan.files.iter().map(|file| file.name.as_str()).collect();
    let shards = ["pytorch_model-1.bin", "pytorch_model-2.bin"];
    assert_eq!(names, [&["config.json", "pytorch_model.bin.index.json"][..], &shards[..]].concat());
    assert_eq!(plan.weights().map(|file| file.name.as_str()).collect::<Vec<_>>(), shards);
    let pulled = pull(&hub).unwrap();
    assert_eq!(hub.cache().find(&id()), Some(pulled.path));
    fs::remove_file(world.blob(&sha256(&[2; 1000]))).unwrap();
    assert_eq!(hub.cache().find(&id()), None);
    world
        .server
        .state()
        .small
        .insert("pytorch_model.bin.index.json".to_owned(), index("pytorch_model-9.bin").into_bytes());
    let error = hub.plan(&id()).unwrap_err().to_string();
    let expected = "it names a shard `pytorch_model-9.bin` that the model does not have";
    assert_eq!(error, format!("pytorch_model.bin.index.json of org/model: {expected}"));
}
