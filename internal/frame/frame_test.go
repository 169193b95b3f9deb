package frame_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"starling/internal/frame"
)

// The format is drawn in the package comment; these bytes are it, with the
// sums computed by another program (Python, bit by bit from the polynomial).
func TestHeaderBytes(t *testing.T) {
	h := frame.Header{
		Type: frame.Result, Flags: 0x0102, Request: 0x1112131415161718,
		Layer: 0x21222324, Slice: 0x31323334, Nth: 0x41424344,
		Length: 9, PayloadCRC: frame.CRC([]byte("123456789")),
	}
	var b [frame.HeaderSize]byte
	h.Put(&b)
	const want = "5354524c" + "01" + "09" + "0201" + "1817161514131211" +
		"24232221" + "34333231" + "44434241" + "09000000" + "839206e3" + "1a48b9dc"
	if got := hex.EncodeToString(b[:]); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	got, err := frame.Parse(&b, 9)
	if err != nil || got != h {
		t.Errorf("parsed %+v, %v; want %+v", got, err, h)
	}
}

func TestCRC(t *testing.T) {
	// Check value of CRC-32C, and RFC 3720 section B.4: 32 bytes of zeroes.
	for _, c := range []struct {
		name, text string
		want       uint32
	}{
		{"check value", "123456789", 0xe3069283},
		{"RFC 3720 zeroes", strings.Repeat("\x00", 32), 0x8a9136aa},
		{"empty", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := frame.CRC([]byte(c.text)); got != c.want {
				t.Errorf("got %08x, want %08x", got, c.want)
			}
			half := len(c.text) / 2
			got := frame.UpdateCRC(frame.CRC([]byte(c.text[:half])), []byte(c.text[half:]))
			if got != c.want {
				t.Errorf("in two parts %08x, want %08x", got, c.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	// seal corrects the header CRC after a change.
	seal := func(b *[frame.HeaderSize]byte) { binary.LittleEndian.PutUint32(b[36:], frame.CRC(b[:36])) }
	header := func(typ frame.Type, length uint32) [frame.HeaderSize]byte {
		var b [frame.HeaderSize]byte
		(&frame.Header{Type: typ, Length: length}).Put(&b)
		return b
	}
	for _, c := range []struct {
		name   string
		typ    frame.Type
		length uint32
		change func(b *[frame.HeaderSize]byte)
		want   error
	}{
		{"magic", frame.Ping, 0, func(b *[frame.HeaderSize]byte) { b[0] = 'G' }, frame.ErrMagic},
		{"version", frame.Ping, 0, func(b *[frame.HeaderSize]byte) { b[4] = 2; seal(b) }, frame.ErrVersion},
		{"type zero", frame.Ping, 0, func(b *[frame.HeaderSize]byte) { b[5] = 0; seal(b) }, frame.ErrType},
		{"type beyond the last", frame.Leave + 1, 0, nil, frame.ErrType},
		{"ping with a payload", frame.Ping, 1, nil, &frame.TooLongError{Type: frame.Ping, Length: 1}},
		{
			"hello too long", frame.Hello, frame.MaxControl + 1, nil,
			&frame.TooLongError{Type: frame.Hello, Length: frame.MaxControl + 1, Limit: frame.MaxControl},
		},
		{"tensor too long", frame.Compute, 101, nil, &frame.TooLongError{Type: frame.Compute, Length: 101, Limit: 100}},
		{"longest length", frame.Chunk, 1<<32 - 1, nil, &frame.TooLongError{Type: frame.Chunk, Length: 1<<32 - 1, Limit: 100}},
		{"longest tensor", frame.Result, 100, nil, nil},
		{"longest hello", frame.Hello, frame.MaxControl, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := header(c.typ, c.length)
			if c.change != nil {
				c.change(&b)
			}
			_, err := frame.Parse(&b, 100)
			var long, wantLong *frame.TooLongError
			if errors.As(c.want, &wantLong) {
				if !errors.As(err, &long) || *long != *wantLong {
					t.Errorf("got %v, want %v", err, c.want)
				}
			} else if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// A CRC of 32 bits finds every single flipped bit.
func TestEveryFlippedBitIsSeen(t *testing.T) {
	h := frame.Header{Type: frame.Compute, Request: 77, Layer: 3, Length: 4096, PayloadCRC: 1}
	for bit := range frame.HeaderSize * 8 {
		var b [frame.HeaderSize]byte
		h.Put(&b)
		b[bit/8] ^= 1 << (bit % 8)
		if got, err := frame.Parse(&b, 1<<20); err == nil {
			t.Errorf("bit %d flipped: parsed as %+v", bit, got)
		}
	}
}

func TestTypeNames(t *testing.T) {
	seen := map[string]bool{}
	for typ := frame.Hello; typ <= frame.Update; typ++ {
		if name := typ.String(); !typ.Valid() || name == "" || seen[name] {
			t.Errorf("type %d: valid %v, name %q (each must be there, once)", uint8(typ), typ.Valid(), name)
		} else {
			seen[name] = true
		}
	}
	if got := frame.Type(200).String(); got != "type 200" {
		t.Errorf("unknown type prints as %q", got)
	}
}

// What Parse accepts is within its limit and encodes to the same bytes.
func FuzzParse(f *testing.F) {
	for typ := frame.Type(0); typ <= frame.Update+1; typ++ {
		var b [frame.HeaderSize]byte
		(&frame.Header{Type: typ, Request: 1, Length: 64 << 10 * uint32(typ&1)}).Put(&b)
		f.Add(b[:], uint32(1<<20))
	}
	f.Add([]byte("GET / HTTP/1.1\r\nHost: 127.0.0.1:7070\r\n\r\n"), uint32(0))
	f.Fuzz(func(t *testing.T, p []byte, maxPayload uint32) {
		if len(p) < frame.HeaderSize {
			return
		}
		b := [frame.HeaderSize]byte(p)
		for range 2 { // as it is, and with its sum corrected
			h, err := frame.Parse(&b, maxPayload)
			if err == nil {
				var again [frame.HeaderSize]byte
				h.Put(&again)
				if again != b {
					t.Errorf("%x parsed to %+v, which encodes to %x", b, h, again)
				}
				if limit := h.Type.Limit(maxPayload); h.Length > limit {
					t.Errorf("length %d above limit %d", h.Length, limit)
				}
			}
			binary.LittleEndian.PutUint32(b[36:], frame.CRC(b[:36]))
		}
	})
}
