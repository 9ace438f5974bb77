# What the ten scripts share. From outside: MODEL (a target), DATA, OUT, CONV_MODE, LIMIT; and PRESET (paper, repo), ORIGINAL, PYTHON.
# They use as many GPUs as CUDA_VISIBLE_DEVICES names, go on where they were interrupted, and hand further words on to `llava.eval`. What
# answer files call the model is the last part of MODEL, of an address its host and port.
set -euo pipefail
[ -n "${PYTHON:-}" ] || { [ -x .venv/bin/python ] && PYTHON=.venv/bin/python; } || PYTHON=python3
: "${MODEL:=mini}"
case "$MODEL" in
  *://*) NAME="${MODEL#*://}" NAME="${NAME%%/*}" NAME="${NAME##*@}" NAME="${NAME//:/-}" ;;
  *) NAME="$(basename "$MODEL")" ;;
esac
[ "$MODEL" = mini ] && : "${DATA:=playground/data/mini}" || : "${DATA:=playground/data}"
: "${OUT:=runs/v1_5/$NAME}" "${ORIGINAL:=data}" # ORIGINAL: below it are the original's answer files, in their places

evaluate() {
  exec "$PYTHON" -m llava.eval --model "$MODEL" --data "$DATA" --out "$OUT" --original "$ORIGINAL" --preset "${PRESET:-paper}" --model-name "$NAME" \
    ${CONV_MODE:+--engine-option "conv_mode=$CONV_MODE"} ${LIMIT:+--limit "$LIMIT"} "$@"
}

# For llava/eval/eval_*.sh. From outside besides: JUDGE (keyword, NAME, NAME@URL, ...) and JUDGE_FILE (the original's prompts).
judge() {
  exec "$PYTHON" -m llava.eval.judge "$OUT" ${JUDGE:+--judge "$JUDGE"} ${JUDGE_FILE:+--judge-file "$JUDGE_FILE"} \
    --original "$ORIGINAL" --model-name "$NAME" ${LIMIT:+--limit "$LIMIT"} "$@"
}
