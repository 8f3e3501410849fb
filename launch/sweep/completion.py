"""Tab completion of ``python -m launch.train`` in bash; Hydra's own completes ``python FILE`` alone.

eval "$(python -m launch.train -sc install=bash)"
"""

from hydra._internal.core_plugins.bash_completion import BashCompletion as StockCompletion

SCRIPT = """\
launch_train_completion() {
    [ "${COMP_WORDS[1]} ${COMP_WORDS[2]}" == "-m launch.train" ] || return
    local choices=$(COMP_LINE="train${COMP_LINE#*launch.train}" "${COMP_WORDS[0]}" -m launch.train -sc query=bash 2> /dev/null)
    COMPREPLY=($(compgen -o nospace -o default -W "$choices" -- "${COMP_WORDS[COMP_CWORD]}"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F launch_train_completion python python3"""


class ModuleCompletion(StockCompletion):
    """Hydra's answers, asked for by a script that knows ``python -m launch.train``."""

    def install(self) -> None:
        """Prints what bash is to evaluate."""
        print(SCRIPT)

    def uninstall(self) -> None:
        """See ``install``."""
        print("complete -r python python3; unset -f launch_train_completion")
