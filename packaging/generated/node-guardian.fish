# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_node_guardian_global_optspecs
    string join \n h/help V/version
end

function __fish_node_guardian_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_node_guardian_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_node_guardian_using_subcommand
    set -l cmd (__fish_node_guardian_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c node-guardian -n "__fish_node_guardian_needs_command" -s h -l help -d 'Print help'
complete -c node-guardian -n "__fish_node_guardian_needs_command" -s V -l version -d 'Print version'
complete -c node-guardian -n "__fish_node_guardian_needs_command" -f -a "run" -d 'Guard this node, in the foreground'
complete -c node-guardian -n "__fish_node_guardian_needs_command" -f -a "check" -d 'Compile the whole configuration and print every complaint'
complete -c node-guardian -n "__fish_node_guardian_needs_command" -f -a "status" -d 'Show the state of the node, actions in force and why, and the headroom'
complete -c node-guardian -n "__fish_node_guardian_needs_command" -f -a "explain" -d 'Explain why each rule does what it does'
complete -c node-guardian -n "__fish_node_guardian_needs_command" -f -a "metrics" -d 'List every metric that a condition may use'
complete -c node-guardian -n "__fish_node_guardian_needs_command" -f -a "replay" -d 'Run samples from a file through the rules, offline'
complete -c node-guardian -n "__fish_node_guardian_needs_command" -f -a "drill" -d 'Apply and undo each reversible action for a moment, and verify both'
complete -c node-guardian -n "__fish_node_guardian_needs_command" -f -a "undo" -d 'Undo actions in force, now. No rule repeats them until its rules were quiet for 10 minutes, or `resume`'
complete -c node-guardian -n "__fish_node_guardian_needs_command" -f -a "pause" -d 'Take no new actions for a while, and undo those in force'
complete -c node-guardian -n "__fish_node_guardian_needs_command" -f -a "resume" -d 'End a pause, and return undone knobs to the rules'
complete -c node-guardian -n "__fish_node_guardian_needs_command" -f -a "completions" -d 'Print a script that lets a shell complete these commands'
complete -c node-guardian -n "__fish_node_guardian_needs_command" -f -a "man" -d 'Print the manual page, for `man -l -`'
complete -c node-guardian -n "__fish_node_guardian_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand run" -l config -d 'Default: /etc/node-guardian/config.toml if it exists, else built-in defaults' -r -F
complete -c node-guardian -n "__fish_node_guardian_using_subcommand run" -l level -d 'The harshest class of action that is allowed' -r -f -a "disabled\t''
minimal\t''
standard\t''
aggressive\t''
maximum\t''"
complete -c node-guardian -n "__fish_node_guardian_using_subcommand run" -l dry-run -d 'Decide and report, change nothing'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand run" -s h -l help -d 'Print help'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand check" -l live -d 'Also test every control: can it be reached and used? Changes nothing'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand check" -l json -d 'For programs: JSON and nothing else'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand check" -s h -l help -d 'Print help'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand status" -l socket -d 'The daemon\'s admin socket; root, you or the daemon\'s user must own it [default: /run/node-guardian/admin.sock]' -r -F
complete -c node-guardian -n "__fish_node_guardian_using_subcommand status" -l url -d 'Ask over TCP, such as http://127.0.0.1:9977, and trust any listener there. With --socket: only if that does not answer' -r
complete -c node-guardian -n "__fish_node_guardian_using_subcommand status" -l token-file -d 'The file with the bearer token for --url' -r -F
complete -c node-guardian -n "__fish_node_guardian_using_subcommand status" -l json -d 'For programs: JSON and nothing else'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand status" -l all -d 'Also list rules that are not applicable on this node'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand status" -l watch -d 'Show it every second, until interrupted'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand status" -l alive -d 'Print nothing, and exit 0 while the daemon ticks, also in an emergency: for health checks in containers, which have no curl'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand status" -s h -l help -d 'Print help'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand explain" -l socket -d 'The daemon\'s admin socket; root, you or the daemon\'s user must own it [default: /run/node-guardian/admin.sock]' -r -F
complete -c node-guardian -n "__fish_node_guardian_using_subcommand explain" -l url -d 'Ask over TCP, such as http://127.0.0.1:9977, and trust any listener there. With --socket: only if that does not answer' -r
complete -c node-guardian -n "__fish_node_guardian_using_subcommand explain" -l token-file -d 'The file with the bearer token for --url' -r -F
complete -c node-guardian -n "__fish_node_guardian_using_subcommand explain" -l json -d 'For programs: JSON and nothing else'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand explain" -s h -l help -d 'Print help'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand metrics" -l json -d 'For programs: JSON and nothing else'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand metrics" -s h -l help -d 'Print help'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand replay" -l config -d 'The configuration whose rules are tried' -r -F
complete -c node-guardian -n "__fish_node_guardian_using_subcommand replay" -l expect -d 'The decisions that are expected; exit 1 if they differ' -r -F
complete -c node-guardian -n "__fish_node_guardian_using_subcommand replay" -s h -l help -d 'Print help'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand drill" -l socket -d 'The daemon\'s admin socket; root, you or the daemon\'s user must own it [default: /run/node-guardian/admin.sock]' -r -F
complete -c node-guardian -n "__fish_node_guardian_using_subcommand drill" -l url -d 'Ask over TCP, such as http://127.0.0.1:9977, and trust any listener there. With --socket: only if that does not answer' -r
complete -c node-guardian -n "__fish_node_guardian_using_subcommand drill" -l token-file -d 'The file with the bearer token for --url' -r -F
complete -c node-guardian -n "__fish_node_guardian_using_subcommand drill" -l wait -d 'How long to wait for the result' -r
complete -c node-guardian -n "__fish_node_guardian_using_subcommand drill" -s y -l yes -d 'Do not ask first'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand drill" -l json -d 'For programs: JSON and nothing else'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand drill" -s h -l help -d 'Print help'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand undo" -l socket -d 'The daemon\'s admin socket; root, you or the daemon\'s user must own it [default: /run/node-guardian/admin.sock]' -r -F
complete -c node-guardian -n "__fish_node_guardian_using_subcommand undo" -l url -d 'Ask over TCP, such as http://127.0.0.1:9977, and trust any listener there. With --socket: only if that does not answer' -r
complete -c node-guardian -n "__fish_node_guardian_using_subcommand undo" -l token-file -d 'The file with the bearer token for --url' -r -F
complete -c node-guardian -n "__fish_node_guardian_using_subcommand undo" -l wait -d 'How long to wait for the result' -r
complete -c node-guardian -n "__fish_node_guardian_using_subcommand undo" -l forget -d 'Give up an owed undo whose target is gone: nothing is sent, the value stays, and the events record who gave it up'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand undo" -l json -d 'For programs: JSON and nothing else'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand undo" -s h -l help -d 'Print help'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand pause" -l for -d 'The pause ends by itself after this time, at most 7d' -r
complete -c node-guardian -n "__fish_node_guardian_using_subcommand pause" -l socket -d 'The daemon\'s admin socket; root, you or the daemon\'s user must own it [default: /run/node-guardian/admin.sock]' -r -F
complete -c node-guardian -n "__fish_node_guardian_using_subcommand pause" -l url -d 'Ask over TCP, such as http://127.0.0.1:9977, and trust any listener there. With --socket: only if that does not answer' -r
complete -c node-guardian -n "__fish_node_guardian_using_subcommand pause" -l token-file -d 'The file with the bearer token for --url' -r -F
complete -c node-guardian -n "__fish_node_guardian_using_subcommand pause" -l hold -d 'Keep what is in force'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand pause" -l json -d 'For programs: JSON and nothing else'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand pause" -s h -l help -d 'Print help'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand resume" -l socket -d 'The daemon\'s admin socket; root, you or the daemon\'s user must own it [default: /run/node-guardian/admin.sock]' -r -F
complete -c node-guardian -n "__fish_node_guardian_using_subcommand resume" -l url -d 'Ask over TCP, such as http://127.0.0.1:9977, and trust any listener there. With --socket: only if that does not answer' -r
complete -c node-guardian -n "__fish_node_guardian_using_subcommand resume" -l token-file -d 'The file with the bearer token for --url' -r -F
complete -c node-guardian -n "__fish_node_guardian_using_subcommand resume" -l json -d 'For programs: JSON and nothing else'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand resume" -s h -l help -d 'Print help'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand completions" -s h -l help -d 'Print help'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand man" -s h -l help -d 'Print help'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand help; and not __fish_seen_subcommand_from run check status explain metrics replay drill undo pause resume completions man help" -f -a "run" -d 'Guard this node, in the foreground'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand help; and not __fish_seen_subcommand_from run check status explain metrics replay drill undo pause resume completions man help" -f -a "check" -d 'Compile the whole configuration and print every complaint'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand help; and not __fish_seen_subcommand_from run check status explain metrics replay drill undo pause resume completions man help" -f -a "status" -d 'Show the state of the node, actions in force and why, and the headroom'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand help; and not __fish_seen_subcommand_from run check status explain metrics replay drill undo pause resume completions man help" -f -a "explain" -d 'Explain why each rule does what it does'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand help; and not __fish_seen_subcommand_from run check status explain metrics replay drill undo pause resume completions man help" -f -a "metrics" -d 'List every metric that a condition may use'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand help; and not __fish_seen_subcommand_from run check status explain metrics replay drill undo pause resume completions man help" -f -a "replay" -d 'Run samples from a file through the rules, offline'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand help; and not __fish_seen_subcommand_from run check status explain metrics replay drill undo pause resume completions man help" -f -a "drill" -d 'Apply and undo each reversible action for a moment, and verify both'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand help; and not __fish_seen_subcommand_from run check status explain metrics replay drill undo pause resume completions man help" -f -a "undo" -d 'Undo actions in force, now. No rule repeats them until its rules were quiet for 10 minutes, or `resume`'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand help; and not __fish_seen_subcommand_from run check status explain metrics replay drill undo pause resume completions man help" -f -a "pause" -d 'Take no new actions for a while, and undo those in force'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand help; and not __fish_seen_subcommand_from run check status explain metrics replay drill undo pause resume completions man help" -f -a "resume" -d 'End a pause, and return undone knobs to the rules'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand help; and not __fish_seen_subcommand_from run check status explain metrics replay drill undo pause resume completions man help" -f -a "completions" -d 'Print a script that lets a shell complete these commands'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand help; and not __fish_seen_subcommand_from run check status explain metrics replay drill undo pause resume completions man help" -f -a "man" -d 'Print the manual page, for `man -l -`'
complete -c node-guardian -n "__fish_node_guardian_using_subcommand help; and not __fish_seen_subcommand_from run check status explain metrics replay drill undo pause resume completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
