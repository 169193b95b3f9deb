package frame

import "time"

// The flags of Compute and Result:
//
//	bits 0–1   how the payload is encoded: a wire.Encoding
//	bits 2–3   Compute: how the result shall be encoded
//	bits 4–15  Compute: the time left until nobody wants the result, in
//	           milliseconds as m·2^e, m in bits 4–11 and e in bits 12–15, rounded
//	           up; 0 is no limit
//
// It is a time left and no point of time because devices' clocks differ.
const (
	encodingMask = 3
	wantedShift  = 2
	leftShift    = 4
	leftBits     = 8
	leftMost     = (1<<leftBits - 1) << 15 // ms, over two hours
)

// ComputeFlags are a Compute frame's: encodings of its payload and of the result
// to come, and the time left until nobody wants it, 0 for no limit.
func ComputeFlags(payload, result uint8, left time.Duration) uint16 {
	flags := uint16(payload&encodingMask) | uint16(result&encodingMask)<<wantedShift
	if left <= 0 {
		return flags
	}
	ms := int64((left + time.Millisecond - 1) / time.Millisecond)
	if ms > leftMost {
		return flags
	}
	e := 0
	for ms >= 1<<leftBits {
		ms = (ms + 1) / 2
		e++
	}
	return flags | uint16(ms|int64(e)<<leftBits)<<leftShift
}

// Encoding is how the payload of a Compute or a Result is encoded. It may be none
// of this version.
func (h *Header) Encoding() uint8 { return uint8(h.Flags & encodingMask) }

// Wanted is how the result of a Compute shall be encoded.
func (h *Header) Wanted() uint8 { return uint8(h.Flags >> wantedShift & encodingMask) }

// Left is the time that a Compute has left, 0 if it has no limit.
func (h *Header) Left() time.Duration {
	left := h.Flags >> leftShift
	return time.Duration(left&(1<<leftBits-1)) << (left >> leftBits) * time.Millisecond
}
