# Sourced by the other scripts: makes the virtual environment .venv with pinned requirements, once.
# Usage: source scripts/environment.sh requirements/train.txt [...]
# The environment is reused until a requirement file changes. PYTHON names the interpreter to use.

find_python() {
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: Python 3.11 or newer is needed (set PYTHON to one)" >&2
  return 1
}

venv=.venv
if [ "$1" = requirements/beam.txt ]; then venv=.venv-beam; fi  # it does not go with the others
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then  # none yet, or one left half made
  echo "== making the virtual environment $venv"
  python=$(find_python) || exit 1
  rm -rf "$venv"
  "$python" -m venv "$venv"
fi
for requirements in "$@"; do
  stamp="$venv/installed-$(basename "$requirements")"
  if ! cat requirements/*.txt | cmp -s - "$stamp"; then
    echo "== installing $requirements"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
    cat requirements/*.txt > "$stamp"
  fi
done
export PATH="$PWD/$venv/bin:$PATH"
