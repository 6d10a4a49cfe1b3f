#!/bin/sh
# Trains the embedded model and, equally, the two it is compared with: no attention, and attention for every token.
# About 7 minutes for each on an NVIDIA H200.
#
# usage: embedded.sh TEXT OUT [VARIANT…]        TEXT as sources.py writes it; VARIANT: taipan, mamba, full
#
# The first part trains from nothing. The second goes on from it: all tokens attend at first, then ever fewer, so that
# attention learns what it is good for. Run it again to go on where it was stopped.
set -e
text=$1 out=$2
shift 2
cd "$(dirname "$0")"
for variant in "${@:-taipan}"; do
    python train.py --text "$text" --tokens "$out/tokens" --out "$out/$variant-first" --variant "$variant" --mix mix.json \
        --retell tinystories=8 --steps "${FIRST:-2700}" --train-only
    python train.py --tokens "$out/tokens" --out "$out/$variant" --variant "$variant" --mix mix-finish.json \
        --init "$out/$variant-first/model" --reopen --lr 1e-3 --noise 0.5 --steps "${FINISH:-1000}"
    python evaluate.py "$out/$variant/model" --tokens "$out/tokens" --books "$out/tokens/longctx.heldout.bin" \
        --out "$out/$variant/books.json"
    if [ "$variant" = taipan ]; then
        python evaluate.py "$out/$variant/model" --tokens "$out/tokens" --attention-bound 0.15 \
            --out "$out/$variant/evaluation-bound.json"
        python evaluate.py "$out/$variant/model" --tokens "$out/tokens" --attention-bound 0.15 \
            --books "$out/tokens/longctx.heldout.bin" --out "$out/$variant/books-bound.json"
    fi
done
python plot.py "$out"
