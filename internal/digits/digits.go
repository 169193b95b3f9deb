// Package digits carries a handwriting network and the digits to try it on, so
// that a fresh checkout has real work to do: a LeNet-5-class model that this
// project trained (tools/trainer) and 200 digits that it was not trained on, 20
// of each class. It runs nothing; README.md names origins, licences and scores.
package digits

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/binary"
	"fmt"
	"io"
)

// Count, Rows and Cols are the number of digits and the size of each in pixels.
const (
	Count = 200
	Rows  = 28
	Cols  = 28
)

// Model is the trained network as an ONNX file, opset 13: input "input" f32
// [1,1,28,28], pixel/255, white on black; output "logits" f32 [1,10], the
// class is the index of the largest. Read only.
//
//go:embed digits.onnx
var Model []byte

//go:embed digits-images-idx3-ubyte.gz
var images []byte

//go:embed digits-labels-idx1-ubyte.gz
var labels []byte

// Images returns the digits' pixels, u8 [Count,Rows,Cols] row-major, 0 black to
// 255 white. The slice is new and the caller's.
func Images() []byte {
	return decode(images, Count, Rows, Cols)
}

// Labels returns the class 0..9 of each digit of Images, u8 [Count]. The slice
// is new and the caller's.
func Labels() []byte {
	return decode(labels, Count)
}

// decode unpacks an embedded gzipped IDX file of unsigned bytes with the given
// axes. IDX (the MNIST format): 0, 0, 8 (unsigned byte), the number of axes,
// each axis as a big-endian u32, then the bytes. A file that is anything else
// was committed wrong, so decode panics.
func decode(packed []byte, axes ...int) []byte {
	head := []byte{0, 0, 8, byte(len(axes))}
	size := 1
	for _, n := range axes {
		head = binary.BigEndian.AppendUint32(head, uint32(n))
		size *= n
	}
	unzip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		panic(fmt.Sprintf("digits: embedded file: %v", err))
	}
	// One byte more than fits, so that a file too long is noticed too.
	raw, err := io.ReadAll(io.LimitReader(unzip, int64(len(head)+size+1)))
	if err != nil {
		panic(fmt.Sprintf("digits: embedded file: %v", err))
	}
	if !bytes.HasPrefix(raw, head) || len(raw) != len(head)+size {
		panic(fmt.Sprintf("digits: embedded file is no IDX of u8 %v", axes))
	}
	return raw[len(head):]
}
