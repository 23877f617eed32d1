# Completion of containr for bash. It uses the package bash-completion where that is installed; this stands in for the one
# function of it that is needed: the words typed so far, with those put together again that bash splits at = and :.
if ! declare -F _get_comp_words_by_ref >/dev/null && ! declare -F _init_completion >/dev/null; then
    _get_comp_words_by_ref() {
        local i
        words=() cword=0
        for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do
            if ((i > 0)) && [[ ${COMP_WORDS[i]} == [=:]* || ${words[cword]} == *[=:] ]] && ((${#words[@]} > 1)); then
                words[cword]+=${COMP_WORDS[i]}
            else
                words+=("${COMP_WORDS[i]}")
                cword=$((${#words[@]} - 1))
            fi
            ((i == COMP_CWORD)) && break
        done
        cur=${words[cword]} prev=
        ((cword > 0)) && prev=${words[cword - 1]}
        return 0
    }
    if ! declare -F __ltrim_colon_completions >/dev/null; then
        __ltrim_colon_completions() {
            local i before
            [[ $1 == *:* && $COMP_WORDBREAKS == *:* ]] || return 0
            before=${1%"${1##*:}"}
            for ((i = 0; i < ${#COMPREPLY[@]}; i++)); do
                COMPREPLY[i]=${COMPREPLY[i]#"$before"}
            done
        }
    fi
fi

