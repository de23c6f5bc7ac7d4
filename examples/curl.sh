#!/usr/bin/env bash
# Upload one file with nothing but curl, jq and coreutils: the protocol of docs/wire.md, call by call.
#
#   PUTGATE_SERVER=https://files.example.com PUTGATE_TOKEN_FILE=token ./curl.sh FILE NAME
#
# Killed in the middle, and given again, it goes on with the parts that the store lacks: the upload's id is kept in
# FILE.putgate until the file is complete. FILE must not change meanwhile; if it did, remove FILE.putgate.
set -euo pipefail

file=$1 name=$2
server=${PUTGATE_SERVER%/}
state=$file.putgate
size=$(stat --dereference --format=%s "$file")
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT

say() { printf '%s\n' "$*" >&2; }

# The token goes to curl by a file: what stands on a command line is seen by every user of the machine.
(umask 077 && printf 'Authorization: Bearer %s\n' "$(<"$PUTGATE_TOKEN_FILE")" >"$work/token")

# call NAME < request > answer. For a problem it fails; `code` then says which. What passes by itself is tried again.
call() {
  local tries status
  cat >"$work/request"
  for tries in 1 2 3 4 5; do
    status=$(curl --silent --show-error --header @"$work/token" --header 'Content-Type: application/json' \
      --data-binary @"$work/request" --output "$work/answer" --write-out '%{http_code}' "$server/object/$1") || status=0
    case $status in
      200) cat "$work/answer" && return ;;
      0) sleep "$tries" ;;
      *) jq --exit-status .retry_after "$work/answer" >"$work/wait" 2>/dev/null || break; sleep "$(<"$work/wait")" ;;
    esac
  done
  say "$1: $(jq --raw-output '"\(.detail) (\(.code))"' "$work/answer" 2>/dev/null || echo "HTTP $status")"
  return 1
}

code() { jq --raw-output .code "$work/answer" 2>/dev/null; }

# remember ANSWER: any answer may carry a newer id.
remember() { jq --raw-output .upload_id <<<"$1" >"$state.new" && mv "$state.new" "$state"; }

# slice OFFSET LENGTH: these bytes of the file.
slice() { dd if="$file" iflag=skip_bytes,count_bytes skip="$1" count="$2" bs=1M status=none; }

# put PART: send it exactly as it was signed: its method, its URL, its headers and no others. curl adds the length.
put() {
  jq --raw-output '.headers | to_entries[] | "\(.key): \(.value)"' <<<"$1" >"$work/headers"
  slice "$(jq .offset <<<"$1")" "$(jq .length <<<"$1")" >"$work/part"
  curl --silent --show-error --fail --globoff --path-as-is --request "$(jq --raw-output .method <<<"$1")" \
    --upload-file "$work/part" --header @"$work/headers" --header 'Expect:' --header 'Accept:' --user-agent '' \
    --output /dev/null "$(jq --raw-output .url <<<"$1")"
}

# Cut the file by the part rule, and hash it: each part, and the raw part hashes in a row, which is the file hash.
declare_file() {
  local limits part_size max_parts at
  limits=$(call part_limit <<<'{}')
  part_size=$(jq .part_size <<<"$limits") max_parts=$(jq .max_parts <<<"$limits")
  while (((size + part_size - 1) / part_size > max_parts)); do part_size=$((2 * part_size)); done
  for ((at = 0; at < size; at += part_size)); do
    slice "$at" "$part_size" | sha256sum | cut -d' ' -f1
  done >"$work/parts"
  sed 's/../\\x&/g' "$work/parts" | tr -d '\n' >"$work/escaped"
  jq --raw-input . "$work/parts" | jq --slurp --compact-output --arg name "$name" --argjson size "$size" \
    --argjson part_size "$part_size" --arg hash "$(printf '%b' "$(<"$work/escaped")" | sha256sum | cut -d' ' -f1)" \
    '{name: $name, size: $size, part_size: $part_size, file_hash: $hash, parts: .}' >"$work/declared"
}

# Declare the file. Ends the program where nothing is to be sent; else the upload's id is in the state file.
initiate() {
  local answer recheck
  declare_file
  for recheck in 0 1 2 3; do
    answer=$(jq --compact-output ".recheck = $recheck" "$work/declared" | call initiate_multipart_upload)
    case $(jq --raw-output '.status + (.commit // "")' <<<"$answer") in
      exists) say "$name is stored already" && exit ;;
      # The store has such content, and copies it by itself: all of it, or what is missing then shows in the status.
      copying)
        remember "$answer"
        if complete; then exit; fi
        [[ $(code) =~ ^(parts_missing|upload_gone)$ ]] || return
        ;;
      uploadcomplete) remember "$answer" && return ;;
      # Such a PUT is never signed again: after a failure initiate decides anew, and looks closer.
      uploadput)
        remember "$answer"
        if put "$(jq --compact-output '.parts[0]' <<<"$answer")"; then say "sent the file" && return; fi
        ;;
    esac
  done
  return 1
}

# Send what the store lacks; each time some parts are signed, since their URLs live for minutes only.
send_parts() {
  local status count numbers number part tries
  status=$(upload_status)
  [[ $(jq --raw-output .status <<<"$status") == open ]] || return 0
  count=$(jq '((.size + .part_size - 1) / .part_size) | floor' <<<"$status")
  jq --raw-output '.uploaded[] | "part \(.part_number) is stored already"' <<<"$status" >&2
  jq --argjson count "$count" '[range(1; $count + 1)] - [.uploaded[].part_number] | .[]' <<<"$status" >"$work/missing"
  while mapfile -t -n 20 numbers && ((${#numbers[@]} > 0)); do
    for tries in 1 2 3 4 5; do
      sign "${numbers[@]}" >"$work/signed"
      numbers=()
      while IFS= read -r -u 4 part; do
        number=$(jq .part_number <<<"$part")
        if put "$part"; then say "sent part $number"; else numbers+=("$number"); fi
      done 4<"$work/signed"
      ((${#numbers[@]} > 0)) || break
      # 403: the URL has expired, or lives in a store that was away. Another signature is what helps.
      sleep "$tries"
    done
  done <"$work/missing"
}

upload_status() { jq --raw-input '{upload_id: .}' "$state" | call upload_status; }

# sign NUMBER…: the parts, one a line.
sign() {
  local answer
  answer=$(jq --null-input --compact-output --arg id "$(<"$state")" '{upload_id: $id, part_numbers: $ARGS.positional}' \
    --jsonargs "$@" | call auth_sign)
  remember "$answer"
  jq --compact-output '.parts[]' <<<"$answer"
}

# Publish; while the store copies known content by itself, this is to be called again.
complete() {
  local answer
  while :; do
    answer=$(jq --raw-input '{upload_id: .}' "$state" | call complete_multipart_upload) || return
    [[ $(jq --raw-output .status <<<"$answer") == copying ]] || break
    remember "$answer" && sleep "$(jq .retry_after <<<"$answer")"
  done
  rm "$state" && jq --raw-output '.file.url // .status' <<<"$answer"
}

# The id of an earlier run is good until the server says otherwise.
if [[ -e $state ]] && ! upload_status >/dev/null; then
  [[ $(code) =~ ^upload_(gone|expired|id_invalid)$ ]] && rm "$state"
fi
[[ -e $state ]] || initiate
send_parts
complete
