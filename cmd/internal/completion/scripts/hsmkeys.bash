# bash completion for hsmkeys: source <(hsmkeys completion bash)
# shellcheck shell=bash

_hsmkeys() {
	COMPREPLY=()
	# Bash breaks words at = : and @ too. What stood together in the line belongs
	# together.
	local line=$COMP_LINE word words=() i
	for ((i = 0; i <= COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ -n $COMP_LINE && $i -gt 1 && $line != [[:blank:]]* ]]; then
			words[${#words[@]} - 1]+=$word
		else
			words+=("$word")
		fi
		line=${line#"${line%%[![:blank:]]*}"}
		line=${line#"$word"}
	done

	local answer kind reply candidate
	mapfile -t answer < <(command hsmkeys __complete bash "$COMP_WORDBREAKS" "${words[@]:1}" 2>/dev/null </dev/null)
	kind=${answer[0]%%$'\t'*}
	case $kind in
	files) compopt -o default 2>/dev/null ;; # for want of candidates readline takes files
	directories) compopt -o dirnames 2>/dev/null ;;
	words)
		for reply in "${answer[@]:1}"; do
			candidate=${reply%%$'\t'*}
			COMPREPLY+=("$candidate")
			# There is more to come after site-b/ and file:
			[[ $candidate != *[/:] ]] || compopt -o nospace 2>/dev/null
		done
		;;
	esac
}

complete -F _hsmkeys hsmkeys
