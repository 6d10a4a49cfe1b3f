//! Which calls of a program are one dispatch, on devices whose workgroups can wait for each other.

use taipan_kernels::{BufferId, Call, Kernel, MixerStep, TokenStep, Tuning, Vector};

use crate::describe::shape_of;

/// Layers that a device runs in one dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Together {
    /// None: every call is a dispatch.
    Nothing,
    /// Blocks.
    Blocks,
    /// Blocks, and a layer of selective attention with the block before it.
    Layers,
}

/// A kernel that stands for several calls.
pub(super) struct Step {
    pub(super) name: &'static str,
    /// Calls that it stands for.
    pub(super) calls: usize,
    /// Norm, weights and bias of the gate, of which it has one if a layer is in it.
    pub(super) gate: Option<Vector>,
    buffers: Vec<Option<BufferId>>,
}

impl Step {
    /// What a list of calls begins with.
    pub(super) fn of(calls: &[Call], together: Together) -> Option<Self> {
        if cfg!(target_arch = "wasm32") || together == Together::Nothing {
            return None; // in a page nobody waits
        }
        let layer = TokenStep::of(calls).filter(|step| together == Together::Layers && step.period() == 1);
        if let Some(step) = layer {
            let (name, buffers) = (TokenStep::decl().name, step.launch(1, 1).buffers);
            return Some(Self { name, calls: step.calls(), gate: step.vectors()[0], buffers });
        }
        let (name, buffers) = (MixerStep::decl().name, MixerStep::of(calls)?.launch(1, 1).buffers);
        Some(Self { name, calls: MixerStep::CALLS, gate: None, buffers })
    }

    /// What all calls of a dispatch are, if they are one.
    pub(super) fn whole(calls: &[Call]) -> Option<Self> {
        Self::of(calls, Together::Layers).filter(|step| step.calls == calls.len())
    }

    /// Whether it is what this way of running has and the next has not.
    pub(super) fn is(&self, together: Together) -> bool {
        together == if self.gate.is_some() { Together::Layers } else { Together::Blocks }
    }

    /// Whether it has a buffer. There is none for what is between its calls.
    pub(super) fn uses(&self, id: BufferId) -> bool {
        self.buffers.contains(&Some(id))
    }
}

/// The calls of each dispatch.
pub(super) fn dispatches(calls: &[Call], together: Together) -> Vec<&[Call]> {
    let (mut list, mut rest) = (Vec::new(), calls);
    while !rest.is_empty() {
        let (calls, others) = rest.split_at(Step::of(rest, together).map_or(1, |step| step.calls));
        list.push(calls);
        rest = others;
    }
    list
}

/// A name for calls that are the same dispatch on other weights.
pub(super) fn signature(calls: &[Call]) -> String {
    calls.iter().map(|call| format!("{} {};", call.decl().name, shape_of(call, &Tuning::default()))).collect()
}
