//! Saved states that were damaged on the way: a typed error, and the session is as it was.

use pollster::block_on;
use proptest::prelude::*;
use taipan::SavedStateProblem as P;
use taipan::{Device, Error, Model, Session};
use taipan_tests::drive::{endless, greedy, ids_of, prompted, restored, save, take};
use taipan_tests::saved::{LENGTH_AT, Saved, VERSION_AT, edit_header, reseal, set_word, tensors_at};

use super::{devices, talker};

/// A session to restore into, and what it must still do when that has failed.
pub(crate) struct Victim {
    session: Session,
    before: Saved,
    expected: Vec<u32>,
}

impl Victim {
    pub(crate) fn new(model: &Model) -> Self {
        let mut session = prompted(model, &[9, 8, 7]);
        let _ = take(&mut session, &endless(greedy()), 2);
        let before = save(&mut session);
        let expected = ids_of(&take(&mut restored(model, &before), &endless(greedy()), 4));
        Self { session, before, expected }
    }

    /// Restores what must be refused; returns why it was.
    pub(crate) fn refuse(&mut self, bytes: &[u8]) -> P {
        let error = block_on(self.session.restore(bytes)).expect_err("a damaged state is refused");
        assert_eq!(error.code(), "saved-state");
        let shown = error.to_string();
        assert!(shown.len() < 4000, "a message of {} bytes", shown.len());
        let Error::SavedState { problem } = error else { panic!("{error}") };
        problem
    }

    /// Checks that nothing has happened to the session.
    pub(crate) fn check(mut self) {
        assert_eq!(save(&mut self.session), self.before, "the session is as it was");
        assert_eq!(ids_of(&take(&mut self.session, &endless(greedy()), 4)), self.expected, "and goes on");
    }
}

pub(crate) fn state(model: &Model) -> Vec<u8> {
    let mut session = prompted(model, &[3, 0, 17, 9, 4, 2, 2, 1, 0, 12]);
    let _ = take(&mut session, &endless(greedy()), 3);
    save(&mut session).0
}

#[test]
fn a_state_of_another_model_is_refused() {
    let others = [
        talker().with("vocab_size", 23),
        talker().with("mamba2.d_state", 9),
        talker().with("selective_attention.window", 9),
        talker().with("rms_norm_eps", 2e-5),
        talker().dtype(taipan::Dtype::F16),
    ];
    for (name, device) in devices() {
        let model = talker().open(&device);
        let mut victim = Victim::new(&model);
        for other in &others {
            let bytes = state(&other.open(&Device::cpu()));
            let problem = victim.refuse(&bytes);
            assert!(matches!(problem, P::Fingerprint { .. }), "{name}, {}: {problem}", other.config);
        }
        victim.check();
    }
}

#[test]
fn another_version_is_refused_whatever_follows() {
    let model = talker().open(&Device::cpu());
    let bytes = state(&model);
    let mut victim = Victim::new(&model);
    for version in [0, 2, 0x0100_0000, u32::MAX] {
        let mut other = bytes.clone();
        set_word(&mut other, VERSION_AT, version);
        let expected = P::Version { found: version, expected: 1 };
        assert_eq!(victim.refuse(&other), expected);
        assert_eq!(victim.refuse(&reseal(other.clone())), expected);
        assert_eq!(victim.refuse(&other[..20]), expected);
    }
    victim.check();
}

#[test]
fn a_state_cut_short_anywhere_is_refused() {
    for (name, device) in devices() {
        let model = talker().open(&device);
        let bytes = state(&model);
        let mut victim = Victim::new(&model);
        let dense = 0..tensors_at(&bytes) + 8;
        let sparse = (dense.end..bytes.len()).step_by(997);
        for length in dense.chain(sparse).chain(bytes.len() - 9..bytes.len()) {
            let problem = victim.refuse(&bytes[..length]);
            let truncated = matches!(problem, P::Truncated { found, .. } if found == length as u64);
            assert!(if length < 8 { problem == P::NotAState } else { truncated }, "{name}, {length} bytes: {problem}");
        }
        victim.check();
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    let model = talker().open(&Device::cpu());
    let bytes = state(&model);
    let mut victim = Victim::new(&model);
    for extra in [1, 4, 8, 10_000] {
        let longer = [&bytes[..], &vec![0; extra]].concat();
        assert_eq!(victim.refuse(&longer), P::TrailingBytes { extra: extra as u64 });
        assert_eq!(victim.refuse(&reseal(longer)), P::TrailingBytes { extra: extra as u64 });
    }
    let twice = [&bytes[..], &bytes].concat();
    assert_eq!(victim.refuse(&twice), P::TrailingBytes { extra: bytes.len() as u64 });
    victim.check();
}

#[test]
fn other_files_are_refused() {
    let model = talker().open(&Device::cpu());
    let mut victim = Victim::new(&model);
    let config = talker().config.to_string().into_bytes();
    for bytes in [&b""[..], b"TAIPANS", b"taipanst\x01\0\0\0", b"{}", &config, &[0; 4096], &[0xff; 64]] {
        assert_eq!(victim.refuse(bytes), P::NotAState);
    }
    assert!(matches!(victim.refuse(b"TAIPANST"), P::Truncated { .. }));
    victim.check();
}

#[test]
fn a_header_of_any_claimed_length_is_refused() {
    let model = talker().open(&Device::cpu());
    let bytes = state(&model);
    let mut victim = Victim::new(&model);
    let length = (tensors_at(&bytes) - 16) as u32;
    for claimed in [0, 1, length - 1, length + 1, bytes.len() as u32 - 16, bytes.len() as u32, 1 << 31, u32::MAX] {
        let mut lying = bytes.clone();
        set_word(&mut lying, LENGTH_AT, claimed);
        for lying in [reseal(lying.clone()), lying] {
            let problem = victim.refuse(&lying);
            let expected = claimed as usize + 16 > bytes.len();
            assert_eq!(matches!(problem, P::Truncated { .. }), expected, "{claimed}: {problem}");
        }
    }
    victim.check();
}

#[test]
fn a_flipped_bit_in_a_tensor_shows_in_the_checksum() {
    for (name, device) in devices() {
        let model = talker().open(&device);
        let bytes = state(&model);
        let mut victim = Victim::new(&model);
        for at in (tensors_at(&bytes)..bytes.len()).step_by(1231).chain([bytes.len() - 1]) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            let problem = victim.refuse(&flipped);
            assert!(matches!(problem, P::Checksum { .. }), "{name}, byte {at}: {problem}");
        }
        victim.check();
    }
}

thread_local! {
    static MODEL: (Model, Vec<u8>) = {
        let model = talker().open(&Device::cpu());
        let bytes = state(&model);
        (model, bytes)
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_flipped_bit_anywhere_is_refused(at in any::<prop::sample::Index>(), bit in 0..8u32, in_header in any::<bool>()) {
        let (model, bytes) = MODEL.with(Clone::clone);
        let mut victim = Victim::new(&model);
        let mut flipped = bytes.clone();
        let end = if in_header { tensors_at(&bytes) } else { bytes.len() };
        flipped[at.index(end)] ^= 1 << bit;
        victim.refuse(&flipped);
        victim.check();
    }

    #[test]
    fn bytes_changed_removed_or_added_are_refused(
        at in any::<prop::sample::Index>(),
        remove in 0..40usize,
        add in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let (model, bytes) = MODEL.with(Clone::clone);
        let from = at.index(bytes.len());
        let to = (from + remove).min(bytes.len());
        prop_assume!(bytes[from..to] != add[..]);
        let changed = [&bytes[..from], &add, &bytes[to..]].concat();
        prop_assume!(changed != bytes);
        let mut victim = Victim::new(&model);
        victim.refuse(&changed);
        victim.check();
    }
}

#[test]
fn an_honest_header_may_be_spelled_differently() {
    // The other tests would pass too if nothing at all were accepted.
    let model = talker().open(&Device::cpu());
    let bytes = state(&model);
    let spelled = edit_header(&bytes, |header| header["a note"] = "of another program".into());
    assert_ne!(spelled, bytes);
    assert_eq!(save(&mut restored(&model, &spelled)), Saved(bytes));
}
