package wire

import "strings"

// RequestTopic is where people and programs ask for a command to the device at a,
// below the root of the wilco profile; empty means [DefaultRoot]. With the address
// +/+ it is the filter of all of them.
func RequestTopic(root string, a Address) string {
	return wilco{orDefault(root)}.topic(a, "/request")
}

// ParseRequestTopic takes a RequestTopic apart.
func ParseRequestTopic(root, topic string) (Address, bool) {
	a, leaf, ok := wilco{orDefault(root)}.split(topic)
	return a, ok && leaf == "request" && a.Valid() == nil
}

// ReplySpace is what the topics of answers to a requester begin with, its last slash
// included. It is beside the root and not below it, so that it can be nobody's
// device, and what is sent there is no word of one.
func ReplySpace(root, requester string) string {
	return orDefault(root) + "-replies/" + requester + "/"
}

// InReplySpace is the requester in whose space the topic is; ok is false when it is in
// none.
func InReplySpace(root, topic string) (requester string, ok bool) {
	rest, ok := strings.CutPrefix(topic, orDefault(root)+"-replies/")
	name, leaf, cut := strings.Cut(rest, "/")
	return name, ok && cut && name != "" && leaf != ""
}

func orDefault(root string) string {
	if root == "" {
		return DefaultRoot
	}
	return root
}
