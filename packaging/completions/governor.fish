# Completion of governor and govtop for fish: the programs themselves know their flags.
# Copy to /usr/share/fish/vendor_completions.d/governor.fish, with a link govtop.fish to it.
function __governor_completion
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    if string match -q -- '--*=*' $current # --theme=dark is two words to the programs
        set -l parts (string split -m 1 = -- $current)
        $words[1] --completion-bash $words[2..] $parts 2>/dev/null | string replace -r -- '^' "$parts[1]="
    else
        $words[1] --completion-bash $words[2..] "$current" 2>/dev/null
    end
end
complete -c governor -a '(__governor_completion)'
complete -c govtop -f -a '(__governor_completion)'
