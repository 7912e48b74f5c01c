package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// files measures encrypting and decrypting a large file, compared with the age command.
func (b *bench) files() error {
	b.touch = 3 * b.file // what is read, what is written, and buffers
	defer func() { b.touch = 0 }()
	env := []string{"HSMKEYS_STORE=" + filepath.Join(b.dir, "files")}
	at := func(name string) string { return filepath.Join(b.dir, name) }
	if err := b.randomFile(at("large"), b.file); err != nil {
		return err
	}
	if _, err := b.output(nil, "age-keygen", "-o", at("age.key")); err != nil {
		return err
	}
	recipient, err := b.output(nil, "age-keygen", "-y", at("age.key"))
	if err != nil {
		return err
	}
	label := []string{"--token", "pkcs11:token=bench;object=files"}
	if _, err := b.output(env, append([]string{"hsmkeys", "init", "--label", "files"}, "--token", "bench")...); err != nil {
		return err
	}
	if _, err := b.output(env, append([]string{"hsmkeys", "create", "payroll"}, label...)...); err != nil {
		return err
	}
	if _, err := b.output(env, append([]string{"hsmkeys", "encrypt", "--key", "payroll", "-o", at("ours.age"), at("large")}, label...)...); err != nil {
		return err
	}
	if _, err := b.output(env, "age", "-r", strings.TrimSpace(recipient), "-o", at("age.age"), at("large")); err != nil {
		return err
	}
	ours := "hsmkeys --token 'pkcs11:token=bench;object=files' "
	rows := [][]string{{"what", "ours", "age", "ratio of speeds", "to reach"}}
	for _, test := range []struct{ what, ours, age, reach string }{
		{"encrypt", ours + "encrypt --key payroll -o " + at("ours.new") + " " + at("large"), "sh -c 'age -r " + strings.TrimSpace(recipient) + " -o " + at("age.new") + " " + at("large") + " && sync " + at("age.new") + "'", "≥ 0.98"},
		{"decrypt a file", ours + "decrypt -o " + at("ours.new") + " " + at("ours.age"), "sh -c 'age -d -i " + at("age.key") + " -o " + at("age.new") + " " + at("age.age") + " && sync " + at("age.new") + "'", "≥ 1.5"},
		{"decrypt a pipe", "sh -c \"cat " + at("ours.age") + " | " + ours + "decrypt -o " + at("ours.new") + "\"", "sh -c \"cat " + at("age.age") + " | age -d -i " + at("age.key") + " -o " + at("age.new") + " && sync " + at("age.new") + "\"", "≥ 0.98"},
		{"encrypt, to /dev/null", ours + "encrypt --key payroll -o /dev/null " + at("large"), "age -r " + strings.TrimSpace(recipient) + " -o /dev/null " + at("large"), "≥ 0.98"},
		{"decrypt a file, to /dev/null", ours + "decrypt -o /dev/null " + at("ours.age"), "age -d -i " + at("age.key") + " -o /dev/null " + at("age.age"), "≥ 1.5"},
		{"decrypt a pipe, to /dev/null", "sh -c \"cat " + at("ours.age") + " | " + ours + "decrypt -o /dev/null\"", "sh -c \"cat " + at("age.age") + " | age -d -i " + at("age.key") + " -o /dev/null\"", "≥ 0.98"},
	} {
		times, err := b.inTurns(b.rounds, env, test.ours, test.age)
		if err != nil {
			return err
		}
		speed := func(v []float64) string { return fmt.Sprintf("%.0f MiB/s", float64(b.file>>20)/median(v)) }
		rows = append(rows, []string{test.what, speed(times[0]), speed(times[1]), fmt.Sprintf("%.2f", 1/ratio(times[0], times[1])), test.reach})
	}
	b.heading("A file of %s, beside age with one recipient", mib(b.file))
	fmt.Fprintln(&b.out, "hsmkeys finishes only when the file is on the disk, so age is followed by `sync FILE`.")
	fmt.Fprintln(&b.out)
	b.table(rows)
	rows = [][]string{{"peak memory, file of " + mib(b.file), "", "to reach"}}
	for _, verb := range []string{"encrypt --key payroll -o " + at("ours.age") + " " + at("large"), "decrypt -o " + at("out") + " " + at("ours.age")} {
		u, err := b.watch(env, append(append([]string{"hsmkeys"}, label...), strings.Fields(verb)...)...)
		if err != nil {
			return err
		}
		rows = append(rows, []string{strings.Fields(verb)[0], mib(u.peak), "< 64 MiB"})
	}
	fmt.Fprintln(&b.out)
	b.table(rows)
	var encrypts, decrypts []float64
	var sizes []string
	for size := int64(1 << 10); size <= b.file; size <<= 5 {
		if err := b.randomFile(at("some"), size); err != nil {
			return err
		}
		times, err := b.inTurns(3, env, ours+"encrypt --key payroll -o "+at("some.age")+" "+at("some"), ours+"decrypt -o "+at("out")+" "+at("some.age"))
		if err != nil {
			return err
		}
		sizes = append(sizes, sizeName(size))
		encrypts, decrypts = append(encrypts, median(times[0])), append(decrypts, median(times[1]))
	}
	for _, name := range []string{"large", "ours.age", "age.age", "out", "age.new", "ours.new", "some", "some.age"} {
		os.Remove(at(name))
	}
	return b.chart("file-size", "encrypt and decrypt, by file size", sizes, []series{{"encrypt", encrypts}, {"decrypt", decrypts}})
}

func sizeName(size int64) string {
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if size < 1<<10 {
			return fmt.Sprintf("%d %s", size, unit)
		}
		size >>= 10
	}
	return "?"
}

func (b *bench) randomFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{1}), size) // that it does not compress is enough
	return err
}
