#!/bin/sh
# reach.sh HOST PORT: wait up to ten seconds until something listens there.
tries=0
until bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>/dev/null; do
  tries=$((tries + 1))
  if [ "$tries" -ge 20 ]; then
    echo "nothing listens at $1:$2" >&2
    exit 1
  fi
  sleep 0.5
done
echo "reached $1:$2"
