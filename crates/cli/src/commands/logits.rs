//! `taipan logits`: writes the logits of every position to a file.

use std::io::{self, Write};

use taipan::fsutil::AtomicFile;
use taipan::{ElementType, Error, LayerType, Model, Session, weights};

use super::piece;
use crate::failure::{Failure, Result};
use crate::progress::{Progress, Unit};
use crate::settings::{Logits, LogitsInput, Target};
use crate::target::open_model;
use crate::{interrupt, output, text};

/// Streams logits to the file, which appears when it is complete.
pub(super) async fn run(target: &Target, task: Logits) -> Result<()> {
    let text = match &task.input {
        LogitsInput::Ids(_) => None,
        LogitsInput::Text(source) => Some(text::read(source)?),
    };
    interrupt::install();
    // Before the model is loaded, because a path is more easily wrong than a model.
    let mut file = AtomicFile::create(&task.output)?;
    let opened = open_model(target, &task.model).await?;
    let ids = match (text, task.input) {
        (Some(text), _) => text::encode_start(&opened.model, &text)?,
        (None, LogitsInput::Ids(ids)) => ids,
        (None, LogitsInput::Text(_)) => unreachable!("the text was read above"),
    };
    if ids.is_empty() {
        return Err(Error::EmptyPrompt.into());
    }
    let mut session = opened.model.session(opened.options)?;
    let write_error = |e| Error::Io { action: "write", path: task.output.clone(), source: e };
    file.write_all(&header(&opened.model, ids.len())).map_err(write_error)?;
    let gates =
        write_logits(&mut session, &ids, &mut |floats| write_floats(&mut file, floats).map_err(write_error)).await?;
    gates.write(&mut file).map_err(write_error)?;
    file.commit()?;
    let vocab = opened.model.config().vocab_size;
    output::note(&format!("{}: {} positions of {vocab} logits", task.output.display(), ids.len()));
    Ok(())
}

/// Everything in front of the numbers. Floats come first, so that they are aligned.
fn header(model: &Model, len: usize) -> Vec<u8> {
    let config = model.config();
    let (logits, gates) = ([len, config.vocab_size], [config.count(LayerType::SelectiveAttention), len]);
    let mut tensors = vec![("logits", ElementType::F32, &logits[..])];
    if gates[0] > 0 {
        tensors.push(("alpha", ElementType::F32, &gates));
        tensors.push(("mask", ElementType::U8, &gates));
    }
    weights::header(&tensors)
}

/// Hands over the logits tile by tile; what the gates decided is small enough to keep.
async fn write_logits(
    session: &mut Session,
    ids: &[u32],
    write: &mut impl FnMut(&[f32]) -> taipan::Result<()>,
) -> Result<Gates> {
    let progress = Progress::new("reading", Unit::Tokens);
    let mut gates = Gates::default();
    let mut done = 0;
    let size = piece(session.model().device());
    for piece in ids.chunks(size) {
        let rows = session.prefill_rows(piece, |rows| write(rows.logits));
        interrupt::unless(rows).await.ok_or(Failure::Interrupted)??;
        gates.add(session.gates());
        done += piece.len();
        progress.set(done as u64, ids.len() as u64);
    }
    Ok(gates)
}

/// Decisions of every layer about every token.
#[derive(Default)]
struct Gates {
    alpha: Vec<Vec<f32>>,
    mask: Vec<Vec<u8>>,
}

impl Gates {
    fn add(&mut self, trace: &taipan::GateTrace) {
        self.alpha.resize(trace.alpha.len(), Vec::new());
        self.mask.resize(trace.mask.len(), Vec::new());
        for (all, new) in self.alpha.iter_mut().zip(&trace.alpha) {
            all.extend(new);
        }
        for (all, new) in self.mask.iter_mut().zip(&trace.mask) {
            all.extend(new);
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.alpha.iter().try_for_each(|layer| write_floats(out, layer))?;
        self.mask.iter().try_for_each(|layer| out.write_all(layer))
    }
}

fn write_floats(out: &mut impl Write, floats: &[f32]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(4 << 10);
    for floats in floats.chunks(1 << 10) {
        bytes.clear();
        bytes.extend(floats.iter().flat_map(|f| f.to_le_bytes()));
        out.write_all(&bytes)?;
    }
    Ok(())
}
