package mqtt

// Error is why bytes were refused, or why a packet cannot be encoded. Every
// error of this package is a *Error, except those of the io.Reader below a
// Reader.
type Error struct {
	Code ReasonCode // what MQTT 5.0 answers, in CONNACK or DISCONNECT
	Text string     // what was wrong, for logs; holds no bytes of the peer
}

// Error returns the code's name and the text.
func (e *Error) Error() string { return e.Code.String() + ": " + e.Text }

func malformed(text string) *Error { return &Error{MalformedPacket, text} }

func protocolError(text string) *Error { return &Error{ProtocolError, text} }
