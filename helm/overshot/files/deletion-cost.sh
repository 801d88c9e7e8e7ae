# Writes how many jobs this pod's worker runs into its deletion cost, when that has changed. Best effort: a failure is told and tried again.
# METRICS KUBERNETES POD NAMESPACE SECONDS_BETWEEN; ACCOUNT: where the service account's token and CA lie.
ACCOUNT=${ACCOUNT:-/var/run/secrets/kubernetes.io/serviceaccount}
trap 'exit 0' TERM INT
last=
while true; do
  busy=$(curl -sf -m 5 "$METRICS" | awk '/^overshot_worker_slots_busy[{ ]/ { sum += $NF } END { if (NR) printf "%d", sum }')
  if [ -n "$busy" ] && [ "$busy" != "$last" ]; then
    if curl -sf -m 5 -o /dev/null --cacert "$ACCOUNT/ca.crt" -H "Authorization: Bearer $(cat "$ACCOUNT/token")" \
      -X PATCH -H 'Content-Type: application/merge-patch+json' \
      -d "{\"metadata\":{\"annotations\":{\"controller.kubernetes.io/pod-deletion-cost\":\"$busy\"}}}" \
      "$KUBERNETES/api/v1/namespaces/$NAMESPACE/pods/$POD"; then
      last=$busy
    else
      echo "the pod was not patched" >&2
    fi
  fi
  sleep "$SECONDS_BETWEEN" &
  wait $!
done
