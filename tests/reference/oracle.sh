#!/usr/bin/env bash
# oracle.sh COFFER SOURCE one|tensor3|layers2|domain3|tokenizers|formulas: what other engines answered, where a folder
# "shared" with its oracle lies beside the checkout (or in COFFER_SHARED). Exit 77: it is not there, or numpy is not.
set -uo pipefail
coffer=$(readlink -f "$1") source=$2 what=$3
shared=${COFFER_SHARED:-$source/../shared}
python=/usr/bin/python3
skip() { echo "skipped: $*"; exit 77; }
[ -x "$shared/oracle/check" ] || skip "no oracle/check in $shared"
[ -x "$python" ] && "$python" -c 'import numpy' 2>/dev/null || skip "python3-numpy is not installed"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

check() { "$python" "$shared/oracle/check" --coffer "$coffer" "$@"; }

case $what in
  one) check ;;
  tensor3) check --mpirun "mpirun --oversubscribe -n 3" --args "--layout tensor" ;;
  layers2) check --mpirun "mpirun --oversubscribe -n 2" --args "--layout layers" ;;
  domain3) check --mpirun "mpirun --oversubscribe -n 3" --args "--layout domain" ;;
  tokenizers) "$python" "$shared/oracle/check-tokenizers" --coffer "$coffer" llama-spm llama-bpe qwen2 ;;
  formulas) "$python" "$source/tests/reference/answers.py" "$shared/oracle" "$shared/models" ;;
  *) echo "oracle.sh: no check named $what"; exit 2 ;;
esac
