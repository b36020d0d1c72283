# Completion of governor and govtop for bash: the programs themselves know their flags.
# Copy to /usr/share/bash-completion/completions/governor, with a link govtop to it, or source it in ~/.bashrc.
_governor_completion() {
    local word words=() current=${COMP_WORDS[COMP_CWORD]}
    # Bash takes --theme=dark apart into three words, the programs know it as two.
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
        [[ $word == = ]] || words+=("$word")
    done
    if [[ $current == = ]]; then
        current=
        words+=("")
    fi
    mapfile -t COMPREPLY < <(compgen -W "$("$1" --completion-bash "${words[@]}" 2>/dev/null)" -- "$current")
}
complete -o default -F _governor_completion governor
complete -F _governor_completion govtop
