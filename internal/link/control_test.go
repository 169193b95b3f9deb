package link_test

import (
	"errors"
	"testing"

	"starling/internal/frame"
	"starling/internal/link"
)

func TestSendInfo(t *testing.T) {
	inBubble(t, link.Config{}, nil, nil, func(t *testing.T, a, b *link.Conn) {
		if err := a.SendInfo(t.Context(), frame.Welcome, &frame.WelcomeInfo{}); !errors.Is(err, frame.ErrControl) {
			t.Errorf("sent an info that says nothing: %v", err)
		}
		if err := a.SendInfo(t.Context(), frame.Welcome, &frame.WelcomeInfo{Worker: "w1"}); err != nil {
			t.Fatal(err)
		}
		h, p, err := b.Receive()
		if err != nil || h.Type != frame.Welcome {
			t.Fatalf("got %v, %v; want the welcome", h.Type, err)
		}
		var got frame.WelcomeInfo
		if err := frame.Unmarshal(p, &got); err != nil || got.Worker != "w1" {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}
