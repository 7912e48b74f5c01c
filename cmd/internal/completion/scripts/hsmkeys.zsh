#compdef hsmkeys
# zsh completion for hsmkeys: source <(hsmkeys completion zsh), or as _hsmkeys in $fpath

_hsmkeys() {
	local -a answer words_ whole part about_whole about_part
	local kind prefix reply candidate about
	answer=("${(@f)$(command hsmkeys __complete zsh "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null </dev/null)}")
	kind=${answer[1]%%$'\t'*}
	prefix=${answer[1]#*$'\t'}
	case $kind in
	files|directories)
		[[ -z $prefix ]] || compset -P "${(b)prefix}"
		if [[ $kind == directories ]]; then _files -/; else _files; fi
		return
		;;
	esac
	for reply in "${(@)answer[2,-1]}"; do
		candidate=${reply%%$'\t'*}
		about=${reply#*$'\t'}
		[[ -z $about ]] || about="$candidate  -- $about"
		# There is more to come after site-b/ and file:
		if [[ $candidate == *[/:] ]]; then
			part+=("$candidate") about_part+=("${about:-$candidate}")
		else
			whole+=("$candidate") about_whole+=("${about:-$candidate}")
		fi
	done
	local status_=1
	(( $#whole )) && compadd -l -d about_whole -a whole && status_=0
	(( $#part )) && compadd -S '' -l -d about_part -a part && status_=0
	return status_
}

if [[ ${funcstack[1]} == _hsmkeys ]]; then
	_hsmkeys "$@"
else
	compdef _hsmkeys hsmkeys
fi
