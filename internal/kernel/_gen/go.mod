module starling/internal/kernel/_gen

go 1.26.0
