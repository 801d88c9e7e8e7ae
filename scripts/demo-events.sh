# Sourced by scripts/demo: reads a job's event stream (SSE), shows it, and takes figures from what it kept of it.
# shellcheck shell=bash

# jq: an RFC 3339 time with milliseconds, as Unix time in ms.
# shellcheck disable=SC2034
MS='def ms: capture("^(?<s>[^.Z]*)(\\.(?<f>[0-9]{3}))?") | ((.s + "Z" | fromdateiso8601) * 1000) + (.f // "0" | tonumber);'

# follow ID FILE: every event until the stream ends, one JSON object a line {event, at, data}, to standard output and
# FILE. `at` is when it arrived here, in seconds. Fails when the stream ends without a `done`.
follow() {
    local line event=message data='' done_seen=1
    : >"$2"
    while IFS= read -r line; do
        line=${line%$'\r'}
        case $line in
            event:*) event=${line#event:} && event=${event# } ;;
            data:*) data+=${line#data:} ;;
            '')
                if [[ -n $data ]]; then
                    printf '{"event":"%s","at":%s,"data":%s}\n' "$event" "$EPOCHREALTIME" "$data" | tee -a "$2"
                    if [[ $event == "done" ]]; then done_seen=0; fi
                fi
                event=message data=''
                ;;
        esac
    done < <(curl --noproxy '*' --silent --no-buffer --max-time "$JOB_SECONDS_MAX" --header @"$DIR/auth" \
        "$API/api/v1/jobs/$1/events")
    return "$done_seen"
}

# The chunks' text as it comes; a new attempt is announced.
show_chunks() {
    jq --unbuffered -j '
        if .event == "chunk" then .data.text // ""
        elif .event == "attempt" and .data.attempt > 1 then
            "\n   >>> attempt \(.data.attempt): the output starts anew\n\n"
        elif .event == "done" then "\n   >>> done: \(.data.status)\n"
        else "" end'
}

# count_events FILE NAME
count_events() { grep -c "^{\"event\":\"$2\"" "$1" 2>/dev/null || true; }

# chunk_text FILE ATTEMPT: that attempt's chunks put together.
chunk_text() {
    jq -rj --argjson attempt "$2" 'select(.event == "chunk" and .data.attempt == $attempt) | .data.text // ""' "$1"
}

# event_time FILE FILTER: when the first event that the jq filter lets through arrived; empty when none did.
event_time() { jq -r "$2 | .at" "$1" | sed -n 1p; }

# seconds_between FROM TO: with one digit.
seconds_between() { jq -nr "($2 - $1) * 10 | round / 10"; }
