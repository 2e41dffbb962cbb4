// The completion scripts, one for each shell. At each Tab a script asks `boxrun` itself for candidates (completion.ts).
// If the answer contains `:files`, the script adds names of files. It adds nothing else, so the scripts need no change
// when a command changes.

const bash = `# boxrun in bash; to load it now: source <(boxrun completion bash)
_boxrun() {
  local line=\${COMP_LINE:0:COMP_POINT} candidate last colon=
  local -a words
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  last=\${words[\${#words[@]}-1]}
  # bash treats the text after a colon as a word of its own.
  [[ $last == *:* && $COMP_WORDBREAKS == *:* ]] && colon=\${last%"\${last##*:}"}
  words[\${#words[@]}-1]="=$last"
  COMPREPLY=()
  while IFS= read -r candidate; do
    case $candidate in
      :files) compopt -o default ;;
      :nospace) compopt -o nospace ;;
      *) COMPREPLY+=("\${candidate#"$colon"}") ;;
    esac
  done < <("\${words[0]}" __complete "\${words[@]:1}" 2>/dev/null)
}
complete -F _boxrun boxrun
`;

const zsh = `#compdef boxrun
# boxrun in zsh; to load it now: source <(boxrun completion zsh)
_boxrun() {
  local candidate suffix=' '
  local -a given found
  given=("\${(@)words[2,CURRENT-1]}" "=\${PREFIX}")
  for candidate in "\${(@f)$("\${words[1]}" __complete "\${(@)given}" 2>/dev/null)}"; do
    case $candidate in
      '') ;;
      :files) _files ;;
      :nospace) suffix='' ;;
      *) found+=("$candidate") ;;
    esac
  done
  compadd -S "$suffix" -- "\${(@)found}"
}
compdef _boxrun boxrun
`;

const fish = `# boxrun in fish; to load it now: boxrun completion fish | source
function __boxrun_candidates
  set -l words (commandline -opc)
  for candidate in ($words[1] __complete $words[2..-1] "="(commandline -ct) 2>/dev/null)
    switch $candidate
      case ':files'
        __fish_complete_path (commandline -ct)
      case ':nospace'
      case '*'
        echo $candidate
    end
  end
end
complete -c boxrun -f -a '(__boxrun_candidates)'
`;

// No test covers this script, because the hosts of the tests have no PowerShell.
const powershell = `# boxrun in PowerShell; to load it now: boxrun completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName boxrun -ScriptBlock {
  param($wordToComplete, $commandAst, $cursorPosition)
  $words = @($commandAst.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursorPosition } | Select-Object -Skip 1 | ForEach-Object { $_.ToString() })
  & boxrun __complete @words "=$wordToComplete" 2>$null | Where-Object { $_ -and -not $_.StartsWith(':') } | ForEach-Object {
    [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
  }
}
`;

export const completionScripts = { bash, zsh, fish, powershell } as const;
