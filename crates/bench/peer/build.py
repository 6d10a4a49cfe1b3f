"""Build state-spaces' own kernels for the card at hand: the peer that `bench.py` beside this file times.

    pip download --no-deps --no-binary :all: mamba-ssm causal-conv1d      # or fetch the two source archives by hand
    python3 crates/bench/peer/build.py --sources DIR --into SITE [--full]
    PYTHONPATH=SITE python3 crates/bench/peer/bench.py

DIR holds the source archives (mamba_ssm-*.tar.gz, causal_conv1d-*.tar.gz); SITE becomes a folder to put on PYTHONPATH. PyTorch, Triton,
einops, transformers, ninja and nvcc must be there; nothing is fetched. The kernels are compiled for the compute capability of the
card alone, with the packages' own flags.

Mamba-2 runs on Triton kernels and on causal-conv1d's CUDA kernels. What inference with it never calls takes most of the time to
compile and is left out, with something in its place that says so: `selective_scan_cuda`, which is Mamba-1's, and the backward pass of
causal-conv1d. --full compiles them too. SITE/BUILT.json says what was built.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from pathlib import Path

# What the packages' own setup.py passes to nvcc, less the reports and the line tables.
NVCC_FLAGS = [
    "-O3",
    "-U__CUDA_NO_HALF_OPERATORS__",
    "-U__CUDA_NO_HALF_CONVERSIONS__",
    "-U__CUDA_NO_BFLOAT16_OPERATORS__",
    "-U__CUDA_NO_BFLOAT16_CONVERSIONS__",
    "-U__CUDA_NO_BFLOAT162_OPERATORS__",
    "-U__CUDA_NO_BFLOAT162_CONVERSIONS__",
    "--expt-relaxed-constexpr",
    "--expt-extended-lambda",
    "--use_fast_math",
]

ABSENT = '''"""Stands in for the CUDA kernels of Mamba-1, which were left out of this build."""


def __getattr__(name):
    raise AttributeError(f"selective_scan_cuda.{name}: left out of this build; Mamba-2 does not need it (build.py --full compiles it)")
'''

# The functions of causal_conv1d_bwd.cu that causal_conv1d.cpp calls, for every pair of types it asks for.
NO_BACKWARD = """#include <c10/util/BFloat16.h>
#include <c10/util/Exception.h>
#include <c10/util/Half.h>
#include <cuda_runtime_api.h>
#include "causal_conv1d.h"

#define ABSENT(name)                                                                     \\
    template <typename input_t, typename weight_t> void name(ConvParamsBwd &, cudaStream_t) { \\
        TORCH_CHECK(false, #name ": left out of this build (build.py --full compiles it)");   \\
    }                                                                                    \\
    FOR_WEIGHTS(name, float) FOR_WEIGHTS(name, at::Half) FOR_WEIGHTS(name, at::BFloat16)
#define FOR_WEIGHTS(name, weight_t) \\
    PAIR(name, float, weight_t) PAIR(name, at::Half, weight_t) PAIR(name, at::BFloat16, weight_t)
#define PAIR(name, input_t, weight_t) template void name<input_t, weight_t>(ConvParamsBwd &, cudaStream_t);

ABSENT(causal_conv1d_bwd_cuda)
ABSENT(causal_conv1d_channellast_bwd_cuda)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, required=True, help="folder of the two source archives")
    parser.add_argument("--into", type=Path, required=True, help="folder to fill; put it on PYTHONPATH")
    parser.add_argument("--full", action="store_true", help="compile the kernels of Mamba-1 and of training too (minutes)")
    parser.add_argument("--arch", help="compute capability, for example 9.0; default: the card's")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    into = options.into.resolve()

    import torch

    arch = options.arch or ".".join(map(str, torch.cuda.get_device_capability()))
    os.environ["TORCH_CUDA_ARCH_LIST"] = arch
    os.environ.setdefault("MAX_JOBS", str(os.cpu_count() or 4))
    # ninja may lie beside the interpreter of an environment that was never activated.
    os.environ["PATH"] = sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"]

    built = {"torch": torch.__version__, "cuda": torch.version.cuda, "arch": arch, "failed": {}, "seconds": {}}
    with tempfile.TemporaryDirectory(prefix="peer-") as scratch:
        mamba = unpack(options.sources, "mamba_ssm-", Path(scratch))
        conv = unpack(options.sources, "causal_conv1d-", Path(scratch))
        built["mamba_ssm"], built["causal_conv1d"] = (tree.name.split("-", 1)[1] for tree in (mamba, conv))
        for tree, package in ((mamba, "mamba_ssm"), (conv, "causal_conv1d")):
            shutil.copytree(tree / package, into / package, dirs_exist_ok=True)
        if not options.full:
            (conv / "csrc" / "causal_conv1d_bwd.cu").unlink()
            (conv / "csrc" / "no_backward.cpp").write_text(NO_BACKWARD)
        attempt(built, into, "causal_conv1d_cuda", conv / "csrc")
        if options.full:
            attempt(built, into, "selective_scan_cuda", mamba / "csrc" / "selective_scan")
        if "selective_scan_cuda" not in built["seconds"]:
            (into / "selective_scan_cuda.py").write_text(ABSENT)
    if "causal_conv1d_cuda" in built["failed"]:
        # mamba_ssm falls back to PyTorch's convolution when the package cannot be imported: slower, and said so in BUILT.json.
        shutil.rmtree(into / "causal_conv1d")
    (into / "BUILT.json").write_text(json.dumps(built, indent=1) + "\n")
    check = "import mamba_ssm, mamba_ssm.ops.triton.ssd_combined; from mamba_ssm.models.mixer_seq_simple import MambaLMHeadModel"
    if "causal_conv1d_cuda" not in built["failed"]:
        check += "; import causal_conv1d"
    imported = subprocess.run([sys.executable, "-c", check], env={**os.environ, "PYTHONPATH": str(into)})
    print(json.dumps(built))
    return 1 if built["failed"] or imported.returncode else 0


def unpack(sources: Path, prefix: str, scratch: Path) -> Path:
    """The tree of the newest archive whose name begins so."""
    archives = sorted(sources.glob(prefix + "*.tar.gz"))
    if not archives:
        sys.exit(f"no {prefix}*.tar.gz in {sources}: fetch the source archive there first")
    with tarfile.open(archives[-1]) as archive:
        archive.extractall(scratch, filter="data")
    return scratch / archives[-1].name.removesuffix(".tar.gz")


def attempt(built: dict, into: Path, name: str, csrc: Path) -> None:
    """Compile one extension into `into`; a failure is recorded, and the rest goes on."""
    from torch.utils import cpp_extension

    start = time.monotonic()
    where = csrc / "build"
    where.mkdir()
    try:
        cpp_extension.load(
            name=name,
            sources=[str(file) for file in sorted(csrc.iterdir()) if file.suffix in (".cpp", ".cu")],
            extra_cflags=["-O3"],
            extra_cuda_cflags=NVCC_FLAGS,
            extra_include_paths=[str(csrc)],
            build_directory=str(where),
            verbose=True,
        )
        shutil.copy(where / f"{name}.so", into / f"{name}.so")
        built["seconds"][name] = round(time.monotonic() - start)
    except Exception as failure:  # the compiler's own words are above; what is built without it still has its use
        print(failure, file=sys.stderr)
        built["failed"][name] = str(failure).strip().splitlines()[0][:300]


if __name__ == "__main__":
    sys.exit(main())
