package check

// bridged publishes at one broker and subscribes at the other end of a bridge,
// which somebody has set up. The bridge itself cannot be cut from here.
func bridged(t *trial) {
	topic := t.topic("t")
	far := t.client("far subscriber")
	far.url, far.window = t.bridge, 10
	if !far.connect() || !far.subscribe(topic, 1) {
		return
	}
	near := t.subscriber(topic, 1, 10)
	pub := t.publisher("p")
	for range 25 { // a bridge may follow its subscribers, and takes a while then
		pub.send(1, message{topic: topic, qos: 1, optional: true})
		if far.wait(5*quiet, func() bool { return len(far.got) > 0 }) {
			break
		}
	}
	if len(far.receipts()) == 0 {
		if !t.over() {
			t.skip("nothing of wilco-check/# comes through the bridge")
		}
		return
	}
	pub.send(300, message{topic: topic, qos: 1})
	t.check(Rule{}, far, pub)
	far.leave()
	pub.send(100, message{topic: topic, qos: 1})
	if !far.connect() {
		return
	}
	t.check(Rule{}, far, pub)
	t.check(Rule{}, near, pub) // a loop brings them again
}
