#!/bin/bash
# usage: mosquitto_client.sh HOST PORT CAFILE CERT KEY CLIENT_ID
#
# An MQTT 5 client on mosquitto_sub and mosquitto_pub. It subscribes to
# peer/CLIENT_ID and to its shadow's answer, publishes to both with QoS 1, and
# prints what comes back, one line each. It ends with 0 when it got both within
# 10 s.
set -euo pipefail

connect=(-h "$1" -p "$2" --cafile "$3" --cert "$4" --key "$5" -V mqttv5 -q 1)
id=$6 own=peer/$6 update="\$aws/things/$6/shadow/update"

publish() {
	mosquitto_pub "${connect[@]}" -i "$id-pub-1" -t "$own" -m hello -D publish content-type text/plain -D publish user-property from mosquitto
	mosquitto_pub "${connect[@]}" -i "$id-pub-2" -t "$update" -m '{"state":{"reported":{"client":"mosquitto"}}}'
}

got=0
while IFS='|' read -r topic content_type user payload; do
	case $topic in
	*"received CONNACK"*) echo "connack ${topic##* }" ;;
	"Subscribed (mid: "*)
		echo "suback $(sed -E 's/.*\): //; s/,//g' <<<"$topic")"
		publish
		;;
	"$own") echo "message $payload $content_type $user" && (( got += 1 )) ;;
	"$update/accepted") echo "shadow version $(sed -E 's/.*"version":([0-9]+).*/\1/' <<<"$payload")" && (( got += 1 )) ;;
	esac
done < <(exec stdbuf -oL mosquitto_sub "${connect[@]}" -i "$id" -d -W 10 -C 2 -F '%t|%C|%P|%p' -t "$own" -t "$update/accepted")
(( got == 2 ))
