# Sourced by install.sh and lock.sh: sets UV to a uv program and tells it where torch comes from.
started=$SECONDS
say() { printf '[env] %s\n' "$*"; }

torch=$(sed -n 's/^ *"torch==\([0-9.]*\)",$/\1/p' setup.py)

# uv: the one on PATH, else one of our own in .uv.
if command -v uv >/dev/null && uv --version >/dev/null 2>&1; then
    UV=$(command -v uv)
else
    UV=.uv/bin/uv
    if [ ! -x "$UV" ]; then
        say "No uv on PATH: installing it into .uv"
        python3 -m venv .uv
        .uv/bin/python -m pip install --quiet --disable-pip-version-check uv
    fi
fi

# uv does not read pip's find-links: hand it on. Where no folder of it holds torch's CPU build, take that build from
# the PyTorch project's CPU index, so that a CUDA build is never downloaded for the variant cpu. The variant gpu takes
# torch from the ordinary index.
if [ "$variant" = cpu ]; then
    links=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-$(python3 -m pip config get global.find-links 2>/dev/null || true)}}
    has_cpu_torch=
    for place in ${links//,/ }; do
        if compgen -G "${place#file://}/torch-$torch+cpu-*.whl" >/dev/null; then has_cpu_torch=yes; fi
    done
    if [ -n "$links" ]; then UV_FIND_LINKS=$(echo $links | tr ' ' ',') && export UV_FIND_LINKS; fi
    if [ -z "$has_cpu_torch" ]; then export UV_TORCH_BACKEND=${UV_TORCH_BACKEND:-cpu}; fi
else
    unset UV_FIND_LINKS
fi
