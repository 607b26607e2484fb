package shadow

// topics of the classic shadow (AWS IoT developer guide, "Device Shadow MQTT
// topics").
type topics struct {
	get, getAccepted, getRejected                 string
	update, updateAccepted, updateRejected, delta string
}

func topicsOf(thing string) topics {
	prefix := "$aws/things/" + thing + "/shadow/"
	return topics{
		get:            prefix + "get",
		getAccepted:    prefix + "get/accepted",
		getRejected:    prefix + "get/rejected",
		update:         prefix + "update",
		updateAccepted: prefix + "update/accepted",
		updateRejected: prefix + "update/rejected",
		delta:          prefix + "update/delta",
	}
}

// filters are what to subscribe to: five, where AWS takes eight in a SUBSCRIBE.
func (t topics) filters() []string {
	return []string{t.getAccepted, t.getRejected, t.delta, t.updateAccepted, t.updateRejected}
}
