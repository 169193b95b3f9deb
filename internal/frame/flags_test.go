package frame_test

import (
	"testing"
	"time"

	"starling/internal/frame"
)

func TestComputeFlags(t *testing.T) {
	for _, left := range []time.Duration{
		0, 1, time.Millisecond, time.Millisecond + 1, 255 * time.Millisecond, 256 * time.Millisecond, 257 * time.Millisecond,
		511 * time.Millisecond, time.Second, 2 * time.Minute, 8355 * time.Second, 8355*time.Second + 840*time.Millisecond, 3 * time.Hour, -time.Second,
	} {
		for payload := range uint8(4) {
			for result := range uint8(4) {
				h := frame.Header{Type: frame.Compute, Flags: frame.ComputeFlags(payload, result, left)}
				if h.Encoding() != payload || h.Wanted() != result {
					t.Errorf("encodings %d and %d are read as %d and %d", payload, result, h.Encoding(), h.Wanted())
				}
				got := h.Left()
				if left <= 0 || left > 8356*time.Second {
					if got != 0 {
						t.Errorf("%v is read as %v", left, got)
					}
					continue
				}
				// Rounded up: by less than a millisecond, or than one of 128 steps.
				if got < left || got >= left+max(time.Millisecond, left/127) {
					t.Errorf("%v is read as %v", left, got)
				}
			}
		}
	}
	for flags := range 1 << 16 { // whatever a peer sends
		if h := (frame.Header{Flags: uint16(flags)}); h.Left() < 0 || h.Left() > 8356*time.Second {
			t.Fatalf("flags %04x: %v left", flags, h.Left())
		}
	}
}
