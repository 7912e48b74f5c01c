# fish completion for hsmkeys: hsmkeys completion fish | source

function __hsmkeys_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    # A quote that is not closed yet does not unescape.
    set -l plain (string unescape -- $current; or string replace -r '^([^\'"]*)[\'"]' '$1' -- $current)
    set -l answer (command hsmkeys __complete fish $before[2..-1] "$plain" 2>/dev/null </dev/null)
    set -l head (string split -m 1 \t -- $answer[1])
    switch "$head[1]"
        case files directories
            set -l path (string sub -s (math (string length -- "$head[2]") + 1) -- "$plain")
            set -l found
            if test $head[1] = files
                set found (__fish_complete_path "$path")
            else
                set found (__fish_complete_directories "$path")
            end
            for one in $found
                printf '%s%s\n' "$head[2]" $one
            end
        case words
            printf '%s\n' $answer[2..-1]
    end
end

complete -c hsmkeys -f -a '(__hsmkeys_complete)'
