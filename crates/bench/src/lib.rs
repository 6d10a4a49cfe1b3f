//! The benchmark: workloads with llama-bench's names, kernels one by one, and what is written about them.
//!
//! [`presets`] and [`random`] say which models there are; [`draw`] puts one on a device. [`workload`] is one repetition of
//! a row, [`measure`] repeats it, [`stats`] sums it up, [`probes`] measures what the device could do at best, [`work`]
//! counts what a token needs, [`tune`] finds which kernels are faster how, [`quality`] compares with the CPU. [`record`] is what all of it becomes, [`output`],
//! [`compare`] and [`report`] what people see of it. Files, processes and the command line are in `native`, which a browser
//! does not have.

#![forbid(unsafe_code)]

mod charts;
pub mod compare;
pub mod describe;
pub mod draw;
pub mod kernels;
pub mod measure;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;
pub mod output;
pub mod presets;
pub mod probes;
pub mod quality;
pub mod random;
pub mod record;
pub mod report;
mod shader;
pub mod stats;
pub mod subject;
pub mod tune;
pub mod work;
pub mod workload;
