package link

import (
	"context"

	"starling/internal/frame"
)

// PayloadOf returns a payload with a copy of b and one reference.
func PayloadOf(b []byte) *Payload {
	p := NewPayload(len(b))
	copy(p.Bytes(), b)
	return p
}

// SendInfo sends a control frame; errors are those of frame.Marshal and Send.
func (c *Conn) SendInfo(ctx context.Context, t frame.Type, info frame.Info) error {
	b, err := frame.Marshal(info)
	if err != nil {
		return err
	}
	p := PayloadOf(b)
	defer p.Release()
	return c.Send(ctx, frame.Header{Type: t}, p)
}
