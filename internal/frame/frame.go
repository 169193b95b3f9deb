// Package frame is the byte format of the tensor link, version 1: a fixed
// header of 40 bytes, little-endian, then Length bytes of payload. It knows no
// sockets, and it neither holds nor copies payloads.
//
//	 0               4       5       6       8               12              16
//	┌───────────────┬───────┬───────┬───────┬───────────────────────────────┐
//	│ magic "STRL"  │version│ type  │ flags │ request                       │
//	├───────────────┼───────┴───────┴───────┼───────────────┬───────────────┤
//	│ layer         │ slice                 │ nth           │ length        │ 32
//	├───────────────┼───────────────────────┼───────────────┴───────────────┘
//	│ payload CRC   │ header CRC            │ 40
//	└───────────────┴───────────────────────┘
//
//	offset size field
//	     0    4 magic        "STRL"
//	     4    1 version      1
//	     5    1 type         Type
//	     6    2 flags        of Compute and Result, see ComputeFlags; else 0
//	     8    8 request      request number; in Want and Chunk a byte offset; in Update
//	                     the first row; in Assign and Ready the number of the Assign
//	    16    4 layer        layer of the plan; in Want and Chunk the number of the Assign
//	    20    4 slice        slice of the layer
//	    24    4 nth          which of the worker's slices of that layer; in Result which
//	                     block of the slice's rows, from 0
//	    28    4 length       bytes of payload, at most Limit(type)
//	    32    4 payload CRC  CRC-32C of the payload
//	    36    4 header CRC   CRC-32C of bytes 0 to 35
//
// CRC-32C is the Castagnoli polynomial of RFC 3720, section 12.1. The two sums
// are apart so that a payload sent to n workers is summed once, and so that a
// broken payload leaves the header trustworthy: the receiver knows which slice
// is lost and where the next frame begins.
//
// Tensors travel as raw little-endian elements, or as the flags say. What workers and coordinator
// say about themselves (Hello, Welcome, Assign, Emulate) is JSON in the payload.
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
)

// HeaderSize is the size of an encoded header in bytes.
const HeaderSize = 40

// Version is the format's version; another one is refused.
const Version = 1

// Limits on payloads, in bytes, checked before anything is allocated.
const (
	MaxControl        = 64 << 10  // JSON and reasons
	DefaultMaxPayload = 256 << 20 // tensors and chunks, unless configured otherwise
)

const magic = "STRL"

// Type says what a frame means.
type Type uint8

// The types. Their numbers are part of the format: new ones go at the end.
const (
	Hello   Type = 1 + iota // worker → coordinator, its first frame: HelloInfo
	Welcome                 // coordinator → worker, answer to Hello: WelcomeInfo
	Refuse                  // coordinator → worker: a reason; the last frame of the connection
	Assign                  // coordinator → worker: the shard to hold, AssignInfo
	Want                    // worker → coordinator: send the shard's bytes, from offset Request on
	Chunk                   // coordinator → worker: bytes of the shard at offset Request
	Ready                   // worker → coordinator: the shard is mapped and served
	Compute                 // coordinator → worker: input of Slice of Layer for Request
	Result                  // worker → coordinator: block Nth of Slice of Layer for Request, as soon as it is computed
	Failed                  // worker → coordinator: why there will be no more of it; without a payload, because it was cancelled
	Cancel                  // coordinator → worker: Slice of Layer of Request is no longer wanted
	Ping                    // either way: alive, nothing else to send
	Emulate                 // coordinator → worker, in labs only: EmulateInfo
	Bye                     // coordinator → worker: the end, or no more Compute; worker → coordinator: the end
	Update                  // coordinator → worker: new rows of a slice, for the shard that the next Assign names
	Leave                   // worker → coordinator: find another one, and say Bye
	end
)

// kind says which limit a payload has.
type kind uint8

const (
	empty kind = iota
	control
	bulk
)

var types = [end]struct {
	name string
	kind kind
}{
	Hello: {"hello", control}, Welcome: {"welcome", control}, Refuse: {"refuse", control},
	Assign: {"assign", control}, Want: {"want", control}, Chunk: {"chunk", bulk},
	Ready: {"ready", empty}, Compute: {"compute", bulk}, Result: {"result", bulk},
	Failed: {"failed", control}, Cancel: {"cancel", empty}, Ping: {"ping", empty},
	Emulate: {"emulate", control}, Bye: {"bye", empty},
	Update: {"update", bulk}, Leave: {"leave", empty},
}

// Valid reports whether t is a type of this version.
func (t Type) Valid() bool { return t > 0 && t < end }

func (t Type) String() string {
	if !t.Valid() {
		return "type " + strconv.Itoa(int(t))
	}
	return types[t].name
}

// Limit is the largest payload in bytes of a frame of this type, where tensors
// and chunks may have maxPayload bytes. It is 0 for a type that is not valid.
func (t Type) Limit(maxPayload uint32) uint32 {
	if !t.Valid() {
		return 0
	}
	switch types[t].kind {
	case control:
		return MaxControl
	case bulk:
		return maxPayload
	default:
		return 0
	}
}

// Header is what precedes a payload. The fields a type does not use are 0.
type Header struct {
	Type       Type
	Flags      uint16
	Request    uint64
	Layer      uint32
	Slice      uint32
	Nth        uint32
	Length     uint32 // bytes of payload
	PayloadCRC uint32 // CRC of the payload; 0 if it is empty
}

// Errors of Parse. Whichever it is, the stream is out of step: nothing after
// such a header can be trusted.
var (
	ErrMagic     = errors.New("not a frame of the tensor link")
	ErrVersion   = errors.New("unsupported version of the tensor link")
	ErrHeaderCRC = errors.New("corrupt frame header")
	ErrType      = errors.New("unknown frame type")
)

// TooLongError says that a frame announces more bytes than its type may have.
type TooLongError struct {
	Type          Type
	Length, Limit uint32 // bytes
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("%v frame of %d bytes, limit %d", e.Type, e.Length, e.Limit)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC is the CRC-32C of p; 0 if p is empty.
func CRC(p []byte) uint32 { return UpdateCRC(0, p) }

// UpdateCRC is the CRC-32C of some bytes followed by p, where crc is that of
// the former.
func UpdateCRC(crc uint32, p []byte) uint32 { return crc32.Update(crc, castagnoli, p) }

// Put encodes the header into b. It checks nothing: see Parse.
func (h *Header) Put(b *[HeaderSize]byte) {
	copy(b[:4], magic)
	b[4] = Version
	b[5] = byte(h.Type)
	binary.LittleEndian.PutUint16(b[6:], h.Flags)
	binary.LittleEndian.PutUint64(b[8:], h.Request)
	binary.LittleEndian.PutUint32(b[16:], h.Layer)
	binary.LittleEndian.PutUint32(b[20:], h.Slice)
	binary.LittleEndian.PutUint32(b[24:], h.Nth)
	binary.LittleEndian.PutUint32(b[28:], h.Length)
	binary.LittleEndian.PutUint32(b[32:], h.PayloadCRC)
	binary.LittleEndian.PutUint32(b[36:], CRC(b[:36]))
}

// Parse decodes a header and checks it: magic, version, header CRC, type, and
// the length against Limit(type), where maxPayload is the limit in bytes of
// tensors and chunks. The payload is not looked at. The error is ErrMagic,
// ErrVersion, ErrHeaderCRC, ErrType (wrapped) or a *TooLongError.
func Parse(b *[HeaderSize]byte, maxPayload uint32) (Header, error) {
	if string(b[:4]) != magic {
		return Header{}, fmt.Errorf("%w: it begins %q", ErrMagic, b[:4])
	}
	if b[4] != Version {
		return Header{}, fmt.Errorf("%w: %d, expected %d", ErrVersion, b[4], Version)
	}
	if binary.LittleEndian.Uint32(b[36:]) != CRC(b[:36]) {
		return Header{}, ErrHeaderCRC
	}
	h := Header{
		Type:       Type(b[5]),
		Flags:      binary.LittleEndian.Uint16(b[6:]),
		Request:    binary.LittleEndian.Uint64(b[8:]),
		Layer:      binary.LittleEndian.Uint32(b[16:]),
		Slice:      binary.LittleEndian.Uint32(b[20:]),
		Nth:        binary.LittleEndian.Uint32(b[24:]),
		Length:     binary.LittleEndian.Uint32(b[28:]),
		PayloadCRC: binary.LittleEndian.Uint32(b[32:]),
	}
	if !h.Type.Valid() {
		return Header{}, fmt.Errorf("%w: %d", ErrType, b[5])
	}
	if limit := h.Type.Limit(maxPayload); h.Length > limit {
		return Header{}, &TooLongError{h.Type, h.Length, limit}
	}
	return h, nil
}
