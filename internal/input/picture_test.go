package input

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"starling/internal/tensor"
)

var asBytes = Options{Mean: []float32{0}, Std: []float32{1}}

func encodePNG(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// bands is a picture whose pixels are (20·x, 20·y, 7).
func bands(w, h int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, color.RGBA{R: uint8(20 * x), G: uint8(20 * y), B: 7, A: 255})
		}
	}
	return img
}

// A picture of the model's size goes in as it is, plane by plane.
func TestPictureOfRightSize(t *testing.T) {
	path := writeFile(t, "x.png", encodePNG(t, bands(5, 4)))
	s := mustOpen(t, path, value(tensor.Float32, 1, 3, 4, 5), asBytes)
	if s.Count() != 1 || s.Name(0) != path {
		t.Errorf("%d inputs, the first is %q", s.Count(), s.Name(0))
	}
	var want []float32
	for i := range 20 {
		want = append(want, float32(20*(i%5)))
	}
	for i := range 20 {
		want = append(want, float32(20*(i/5)))
	}
	for range 20 {
		want = append(want, 7)
	}
	wantF32(t, mustTensor(t, s, 0), want...)
}

func TestNormalise(t *testing.T) {
	red := image.NewUniform(color.RGBA{R: 255, A: 255})
	img := image.NewRGBA(image.Rect(0, 0, 1, 1))
	img.Set(0, 0, red.C)
	path := writeFile(t, "red.png", encodePNG(t, img))
	// Luma of pure red: 19595·255/65536 = 76.2.
	for _, c := range []struct {
		name     string
		channels int
		opt      Options
		want     []float32
	}{
		{"ImageNet", 3, Options{}, []float32{(255 - 123.675) / float32(58.395), -float32(116.28) / 57.12, -float32(103.53) / 57.375}},
		{"one for all", 3, Options{Mean: []float32{5}, Std: []float32{10}}, []float32{25, -0.5, -0.5}},
		{"one a channel", 3, Options{Mean: []float32{5, 6, 7}, Std: []float32{1, 2, 7}}, []float32{250, -3, -1}},
		{"grey", 1, Options{}, []float32{76. / 255}},
		{"grey with mean", 1, Options{Mean: []float32{70}, Std: []float32{2}}, []float32{3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mustOpen(t, path, value(tensor.Float32, 1, c.channels, 1, 1), c.opt)
			wantF32(t, mustTensor(t, s, 0), c.want...)
		})
	}
}

func TestResize(t *testing.T) {
	// Black, with a white square of 4×4 in the middle of 12×4 or 4×12.
	wide, tall := image.NewGray(image.Rect(0, 0, 12, 4)), image.NewGray(image.Rect(0, 0, 4, 12))
	for i := range 16 {
		wide.SetGray(4+i%4, i/4, color.Gray{Y: 255})
		tall.SetGray(i%4, 4+i/4, color.Gray{Y: 255})
	}
	white := []float32{255, 255, 255, 255}
	for _, c := range []struct {
		name string
		img  image.Image
		how  Resize
		crop bool
	}{
		{"wide, default", wide, "", true},
		{"wide, crop", wide, Crop, true},
		{"tall, crop", tall, Crop, true},
		{"wide, stretch", wide, Stretch, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			opt := asBytes
			opt.Resize = c.how
			s := mustOpen(t, writeFile(t, "x.png", encodePNG(t, c.img)), value(tensor.Float32, 1, 1, 2, 2), opt)
			x := mustTensor(t, s, 0)
			if c.crop {
				wantF32(t, x, white...)
				return
			}
			// Each half is two parts black to one part white at its inner end.
			for _, v := range x.F32() {
				if v <= 0 || v >= 255 {
					t.Fatalf("not the whole picture: %v", x.F32())
				}
			}
		})
	}
}

func TestCentre(t *testing.T) {
	for _, c := range []struct {
		name          string
		w, h          int // of the picture
		width, height int
		want          image.Rectangle
	}{
		{"same ratio", 400, 200, 20, 10, image.Rect(25, 12, 375, 187)},
		{"wide to square", 512, 341, 224, 224, image.Rect(107, 21, 405, 319)},
		{"tall to square", 341, 512, 224, 224, image.Rect(21, 107, 319, 405)},
		{"square to wide", 96, 96, 3, 1, image.Rect(6, 34, 90, 62)},
		{"a line", 1000, 1, 1, 1000, image.Rect(499, 0, 500, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := centre(image.Rect(0, 0, c.w, c.h), c.width, c.height); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// The size is read before the pixels: this file has no pixels at all.
func TestPictureTooLarge(t *testing.T) {
	b := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), "IHDR"...)
	b = binary.BigEndian.AppendUint32(b, 1<<16)
	b = binary.BigEndian.AppendUint32(b, 1<<16)
	b = append(b, 8, 6, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[12:]))
	_, err := Open(writeFile(t, "x.png", b), value(tensor.Float32, 1, 3, 8, 8), Options{})
	if err == nil || !strings.Contains(err.Error(), "65536×65536 pixels, limit 33554432") {
		t.Error(err)
	}
}

func TestPictureCutShort(t *testing.T) {
	b := encodePNG(t, bands(20, 20))
	_, err := Open(writeFile(t, "x.png", b[:len(b)-30]), value(tensor.Float32, 1, 3, 8, 8), Options{})
	if err == nil || !strings.Contains(err.Error(), "cannot be decoded") {
		t.Error(err)
	}
}

// The crops in the model data were made by another program, whose JPEG decoder
// and scaling round in other ways; they and ours must show the same part of the
// photo. How far apart two right ones may be is unknown, so this compares with
// the part shifted by one pixel instead.
func TestPhotos(t *testing.T) {
	v := value(tensor.Float32, 1, 3, 224, 224)
	for _, name := range []string{"bird", "cat", "dragonfly", "hot_dog", "parrot", "sunflower"} {
		t.Run(name, func(t *testing.T) {
			photo := mustTensor(t, mustOpen(t, modelFile(t, "data/photos/"+name+".jpg"), v, asBytes), 0).F32()
			crop := mustTensor(t, mustOpen(t, modelFile(t, "data/photos/crop224/"+name+".png"), v, asBytes), 0).F32()
			same, shifted := distance(photo, crop), distance(photo[1:], crop[:len(crop)-1])
			t.Logf("mean distance %.2f of 255, shifted %.2f", same, shifted)
			if same >= shifted {
				t.Errorf("%s shows another part", filepath.Base(name))
			}
		})
	}
}

func distance(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		sum += max(float64(a[i]-b[i]), float64(b[i]-a[i]))
	}
	return sum / float64(len(a))
}

func FuzzPicture(f *testing.F) {
	var j bytes.Buffer
	if err := jpeg.Encode(&j, bands(9, 7), nil); err != nil {
		f.Fatal(err)
	}
	f.Add(encodePNG(f, bands(9, 7)))
	f.Add(encodePNG(f, image.NewGray(image.Rect(0, 0, 3, 8))))
	f.Add(j.Bytes())
	want := value(tensor.Float32, 1, 3, 4, 4)
	f.Fuzz(func(t *testing.T, b []byte) {
		// Large pictures are right but slow.
		if c, _, err := image.DecodeConfig(bytes.NewReader(b)); err == nil && c.Width*c.Height > 1<<16 {
			t.Skip()
		}
		s, err := openPicture(io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))), want, asBytes)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("not one line: %v", err)
			}
			return
		}
		s.want = want
		for _, x := range mustTensor(t, s, 0).F32() {
			if !(0 <= x && x <= 255) {
				t.Fatalf("pixel %v", x)
			}
		}
	})
}
