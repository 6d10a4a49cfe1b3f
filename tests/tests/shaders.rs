//! Every shader module and every set of overrides: valid with no capability at all, translatable to SPIR-V, MSL and HLSL,
//! and in agreement with its Rust declaration.

use std::collections::BTreeSet;

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{AddressSpace, Module, Scalar, ScalarKind, StorageAccess, TypeInner};
use taipan_cases::Permutation;
use taipan_kernels::{Access, MixerStep, Subgroups, TokenStep, WeightFormat};

/// The module of a permutation with its overrides resolved.
fn resolve(p: &Permutation) -> (Module, ModuleInfo) {
    resolve_with(p, None)
}

fn resolve_with(p: &Permutation, subgroups: Option<Subgroups>) -> (Module, ModuleInfo) {
    let source = p.decl.source_with(p.format, subgroups);
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|e| panic!("{}: {}", p.module_name(), e.emit_to_string(&source)));
    let info = validate(p, &module, subgroups.is_some());
    let constants = p.overrides.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
    let entry = Some((naga::ShaderStage::Compute, "main"));
    let (module, info) = naga::back::pipeline_constants::process_overrides(&module, &info, entry, &constants)
        .unwrap_or_else(|e| panic!("{} {:?}: {e}", p.module_name(), p.overrides));
    (module.into_owned(), info.into_owned())
}

fn validate(p: &Permutation, module: &Module, subgroups: bool) -> ModuleInfo {
    // No optional capability: every kernel runs on the base tier. `unpack2x16float` is part of it, but naga gives it a flag.
    let cooperative = Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16;
    let more = match p.decl {
        decl if decl.body.starts_with("enable f16") => cooperative,
        decl if decl.waits() => Capabilities::MEMORY_DECORATION_COHERENT | Capabilities::MEMORY_DECORATION_VOLATILE,
        _ => Capabilities::empty(),
    };
    let packed = if matches!(p.format, Some(WeightFormat::F16 | WeightFormat::Q8 | WeightFormat::Q4)) {
        Capabilities::SHADER_FLOAT16_IN_FLOAT32
    } else {
        Capabilities::empty()
    };
    let mut validator = Validator::new(ValidationFlags::all(), packed | more);
    if subgroups {
        validator = Validator::new(ValidationFlags::all(), packed | more | Capabilities::SUBGROUP);
        validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    }
    validator.validate(module).unwrap_or_else(|e| panic!("{} {:?}: {e:?}", p.module_name(), p.overrides))
}

#[test]
fn every_kernel_has_permutations_and_known_overrides() {
    let permutations = taipan_cases::permutations();
    let names: BTreeSet<_> = permutations.iter().map(|p| p.decl.name).collect();
    assert_eq!(names.len(), 27, "{names:?}");
    for p in &permutations {
        let source = p.decl.source(p.format);
        let module = naga::front::wgsl::parse_str(&source).unwrap();
        for (name, _) in &p.overrides {
            let known = module.overrides.iter().any(|(_, o)| o.name.as_deref() == Some(name));
            assert!(known, "{}: no override {name}", p.module_name());
        }
    }
}

/// What a device needs for them is asked for where the device is opened.
#[test]
fn shaders_with_cooperative_matrices_stand_in_for_the_plain_ones() {
    let permutations = taipan_cases::cooperative();
    assert!(permutations.len() > 5, "{} permutations", permutations.len());
    let plain = taipan_cases::permutations();
    for p in &permutations {
        let (module, info) = resolve(p);
        let name = p.module_name();
        assert!(spv::write_vec(&module, &info, &spv::Options::default(), None).is_ok(), "{name}");
        assert_eq!(module.entry_points[0].workgroup_size, p.decl.workgroup, "{name}");
        assert!(workgroup_memory(&module) <= taipan_gpu::COOPERATIVE_MEMORY, "{name}");
        let kernel = name.split(' ').next().unwrap();
        let twin = plain.iter().find(|q| q.decl.name == kernel && (q.format, &q.overrides) == (p.format, &p.overrides));
        assert_eq!(
            bindings(&resolve(twin.expect("a plain shader with the same switches")).0),
            bindings(&module),
            "{name}"
        );
    }
}

#[test]
fn every_permutation_translates_to_every_backend() {
    let permutations = taipan_cases::permutations();
    assert!(permutations.len() > 60, "{} permutations", permutations.len());
    for p in &permutations {
        let (module, info) = resolve(p);
        translate(&p.module_name(), &module, &info, spv::Options::default());
    }
}

/// What a device needs for them is asked for where the device is opened.
#[test]
fn shaders_whose_workgroups_wait_are_as_they_are_declared() {
    let permutations = taipan_cases::block_permutations();
    assert!(permutations.len() > 3, "{} permutations", permutations.len());
    for (p, fewest) in permutations.iter().flat_map(|p| [4, 32].map(|fewest| (p, fewest))) {
        let (module, info) = resolve_with(p, Some(Subgroups { fewest, enable: false }));
        let options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
        translate(&format!("{} with subgroups of {fewest}", p.module_name()), &module, &info, options);
        assert_eq!(bindings(&module), declared(p), "{}", p.module_name());
        assert_eq!(params(&module), params_of(p), "{}", p.module_name());
        let number = |name| p.overrides.iter().find(|(n, _)| *n == name).unwrap().1 as u32;
        let layer = p.overrides.iter().any(|(name, _)| *name == "PERIOD");
        let (width, workgroups) = (number("WIDTH"), number("WORKGROUPS"));
        let sums = if layer { TokenStep::sums(width, number("KV"), number("MLP"), workgroups) } else { 0 };
        let own = if layer { TokenStep::OWN_MEMORY } else { 0 };
        let said = own + MixerStep::memory_of(width, number("HEADS"), workgroups, fewest, sums);
        assert_eq!(workgroup_memory(&module), said, "{} {:?}", p.module_name(), p.overrides);
    }
}

fn bindings(module: &Module) -> Vec<(u32, u32, String, AddressSpace)> {
    let variables = module.global_variables.iter();
    let mut found: Vec<_> = variables
        .filter_map(|(_, v)| v.binding.map(|b| (b.group, b.binding, v.name.clone().unwrap_or_default(), v.space)))
        .collect();
    found.sort_by_key(|(group, binding, ..)| (*group, *binding));
    found
}

fn workgroup_memory(module: &Module) -> u32 {
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).unwrap();
    let shared = module.global_variables.iter().filter(|(_, v)| v.space == AddressSpace::WorkGroup);
    shared.map(|(_, v)| layouter[v.ty].size).sum()
}

#[test]
fn what_uses_subgroups_translates_to_every_backend() {
    let permutations = taipan_cases::permutations();
    let with = permutations.iter().filter(|p| p.decl.uses_lanes());
    let mut count = 0;
    for (p, fewest) in with.flat_map(|p| [4, 64].map(|fewest| (p, fewest))) {
        count += 1;
        let (module, info) = resolve_with(p, Some(Subgroups { fewest, enable: false }));
        let options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
        translate(&format!("{} with subgroups of {fewest}", p.module_name()), &module, &info, options);
    }
    assert!(count > 20, "{count} modules");
}

fn translate(name: &str, module: &Module, info: &ModuleInfo, options: spv::Options<'_>) {
    let words = spv::write_vec(module, info, &options, None);
    assert!(!words.unwrap_or_else(|e| panic!("{name}: SPIR-V: {e}")).is_empty());
    let options = msl::Options { fake_missing_bindings: true, lang_version: (2, 4), ..msl::Options::default() };
    let (text, _) = msl::write_string(module, info, &options, &msl::PipelineOptions::default())
        .unwrap_or_else(|e| panic!("{name}: MSL: {e}"));
    assert!(text.contains("kernel"), "{name}: no kernel in the MSL");
    let mut text = String::new();
    let options =
        hlsl::Options { fake_missing_bindings: true, shader_model: hlsl::ShaderModel::V6_0, ..Default::default() };
    hlsl::Writer::new(&mut text, &options, &hlsl::PipelineOptions::default())
        .write(module, info, None)
        .unwrap_or_else(|e| panic!("{name}: HLSL: {e}"));
    assert!(text.contains("numthreads"), "{name}: no compute shader in the HLSL");
}

#[test]
fn every_shader_binds_what_its_declaration_says() {
    for p in &taipan_cases::permutations() {
        let (module, _) = resolve(p);
        let found = bindings(&module);
        let has_params = found.first().is_some_and(|f| f.2 == "params");
        assert!(has_params, "{}: params comes first", p.module_name());
        assert_eq!(found, declared(p), "{}", p.module_name());
        let storage = p.decl.numbered().count();
        assert!(storage <= 8, "{}: {storage} storage buffers", p.module_name());
    }
}

/// The bindings that a declaration says.
fn declared(p: &Permutation) -> Vec<(u32, u32, String, AddressSpace)> {
    let mut declared = vec![(0, 0, "params".to_owned(), AddressSpace::Uniform)];
    declared.extend(p.decl.numbered().map(|(group, binding, name, access)| {
        let write = if access == Access::Write { StorageAccess::STORE } else { StorageAccess::empty() };
        (group, binding, name.to_owned(), AddressSpace::Storage { access: StorageAccess::LOAD | write })
    }));
    declared.sort_by_key(|(group, binding, ..)| (*group, *binding));
    declared
}

/// Name, whether it is a float, and offset of each member of `Params`.
fn params(module: &Module) -> Vec<(String, bool, u32)> {
    let params = module.global_variables.iter().find(|(_, v)| v.name.as_deref() == Some("params")).unwrap().1;
    let TypeInner::Struct { members, .. } = &module.types[params.ty].inner else { panic!("not a struct") };
    let member = |m: &naga::StructMember| {
        let TypeInner::Scalar(Scalar { kind, width: 4 }) = module.types[m.ty].inner else {
            panic!("{:?} is not a 32-bit scalar", m.name)
        };
        (m.name.clone().unwrap(), kind == ScalarKind::Float, m.offset)
    };
    members.iter().map(member).collect()
}

fn params_of(p: &Permutation) -> Vec<(String, bool, u32)> {
    p.params.iter().zip(0u32..).map(|((name, float), i)| ((*name).to_owned(), *float, 4 * i)).collect()
}

#[test]
fn every_params_struct_has_the_members_of_its_launch() {
    for p in &taipan_cases::permutations() {
        assert_eq!(params(&resolve(p).0), params_of(p), "{}", p.module_name());
    }
}

#[test]
fn workgroups_and_their_memory_fit_the_base_tier() {
    for p in &taipan_cases::permutations() {
        let (module, _) = resolve(p);
        let entry = &module.entry_points[0];
        assert_eq!(entry.workgroup_size, p.decl.workgroup, "{}", p.module_name());
        assert!(entry.workgroup_size.iter().product::<u32>() <= 256, "{}", p.module_name());
        let bytes = workgroup_memory(&module);
        assert!(bytes <= 16_384, "{} {:?}: {bytes} bytes of workgroup memory", p.module_name(), p.overrides);
    }
}
