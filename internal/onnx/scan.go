package onnx

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"starling/internal/tensor"
)

// decoder reads one file. Positions are in bytes from its start.
type decoder struct {
	b       []byte
	mapping *tensor.Mapping // of b; nil if b is not the graph's to keep
	pos     int64
	ext     *folder // nil if external data is out of reach
	fields  int     // messages and strings that may still come
}

func newDecoder(b []byte, mapping *tensor.Mapping, ext *folder) *decoder {
	return &decoder{b: b, mapping: mapping, ext: ext, fields: maxFields}
}

var (
	errWire  = errors.New("not a valid ONNX file: damaged protobuf")
	errShort = errors.New("not a valid ONNX file: it is cut off or damaged")
	errMany  = fmt.Errorf("more than %d messages and strings", maxFields)
)

// next takes the bytes up to position end, which is in the file.
func (d *decoder) next(end int64) []byte {
	b := d.b[d.pos:end:end]
	d.pos = end
	return b
}

func (d *decoder) varint(end int64) (uint64, error) {
	v, n := protowire.ConsumeVarint(d.b[d.pos:end])
	if n < 0 {
		if errors.Is(protowire.ParseError(n), io.ErrUnexpectedEOF) {
			return 0, errShort
		}
		return 0, errWire
	}
	d.pos += int64(n)
	return v, nil
}

// split reads the message that ends at position end, which is in the file. Fields in take are handed
// to their functions, which must read up to the position they are given; all
// others are returned as they were, at most limit bytes of them.
func (d *decoder) split(end int64, limit int, take map[protowire.Number]func(end int64) error) ([]byte, error) {
	var rest []byte
	for d.pos < end {
		tag, err := d.varint(end)
		if err != nil {
			return nil, err
		}
		num, typ := protowire.DecodeTag(tag)
		if num < protowire.MinValidNumber {
			return nil, errWire
		}
		size := int64(0) // of what follows the tag and, for bytes, the length
		head := protowire.AppendTag(nil, num, typ)
		switch typ {
		case protowire.VarintType:
			v, err := d.varint(end)
			if err != nil {
				return nil, err
			}
			head = protowire.AppendVarint(head, v)
		case protowire.Fixed32Type:
			size = 4
		case protowire.Fixed64Type:
			size = 8
		case protowire.BytesType:
			v, err := d.varint(end)
			if err != nil {
				return nil, err
			}
			if v > uint64(end-d.pos) {
				return nil, errShort
			}
			size = int64(v)
			if f := take[num]; f != nil {
				if err := f(d.pos + size); err != nil {
					return nil, err
				}
				continue
			}
			head = protowire.AppendVarint(head, v)
		default:
			return nil, errWire
		}
		if size > end-d.pos {
			return nil, errShort
		}
		if size+int64(len(rest)+len(head)) > int64(limit) {
			return nil, fmt.Errorf("more than %d bytes of structure", limit)
		}
		rest = append(append(rest, head...), d.next(d.pos+size)...)
	}
	return rest, nil
}

// unmarshal parses b as m, once the messages and strings in it are counted: an
// empty one takes two bytes in a file and a hundred times that in memory.
func (d *decoder) unmarshal(b []byte, m proto.Message) error {
	if err := d.count(b, m.ProtoReflect().Descriptor(), maxDepth); err != nil {
		return err
	}
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, m); err != nil {
		return errWire
	}
	return nil
}

func (d *decoder) count(b []byte, m protoreflect.MessageDescriptor, depth int) error {
	if depth == 0 {
		return fmt.Errorf("more than %d levels of messages", maxDepth)
	}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || typ == protowire.StartGroupType {
			return errWire
		}
		b = b[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return errWire
			}
			b = b[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return errWire
		}
		b = b[n:]
		if d.fields--; d.fields < 0 {
			return errMany
		}
		if f := m.Fields().ByNumber(num); f != nil && f.Kind() == protoreflect.MessageKind {
			if err := d.count(value, f.Message(), depth-1); err != nil {
				return err
			}
		}
	}
	return nil
}
