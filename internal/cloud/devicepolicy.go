package cloud

// thingOf is the thing that a connection's certificate is attached to, where
// its client id is the thing's name (AWS IoT developer guide, thing policy
// variables).
const thingOf = "${iot:Connection.Thing.ThingName}"

// devicePolicy lets a gateway do what the agent does, as itself, and nothing
// else. Everything hangs on the thing: who is attached to none has no
// rights. Two tenants cannot reach each other, because a thing belongs to
// one; with a prefix their topics are apart as well, for those who subscribe.
//
// A wildcard * in a resource also stands for the / between segments, and a
// filter's + and # are letters to it: within the gateway's own shadow that
// does no harm, and it keeps the document within AWS's 2048 characters.
func devicePolicy(p Place, prefix string) document {
	own := func(kind string, topics ...string) []string {
		var arns []string
		for _, t := range topics {
			arns = append(arns, p.arn("iot", kind+"/"+t))
		}
		return arns
	}
	shadow := "$aws/things/" + thingOf + "/shadow/"
	return allow(
		statement{
			Action: []string{"iot:Connect"}, Resource: own("client", thingOf),
			Condition: map[string]map[string]string{"Bool": {"iot:Connection.Thing.IsAttached": "true"}},
		},
		statement{
			Action: []string{"iot:Publish"},
			Resource: own("topic", withPrefix(prefix, initTopic(thingOf)), withPrefix(prefix, "dt/"+thingOf+"/*"),
				shadow+"get", shadow+"update", shadow+"name/*/get", shadow+"name/*/update"),
		},
		statement{Action: []string{"iot:Subscribe"}, Resource: own("topicfilter", shadow+"*")},
		statement{Action: []string{"iot:Receive"}, Resource: own("topic", shadow+"*")},
	)
}

// initTopic is the agent's init.topic; what it publishes else begins with dt/.
func initTopic(thing string) string { return "init/" + thing }

func withPrefix(prefix, topic string) string {
	if prefix == "" {
		return topic
	}
	return prefix + "/" + topic
}
