// Command bench measures hsmkeys on this machine, alternating with what it is compared with,
// and writes the tables and charts of docs/performance.md. It is run by scripts/bench.sh
// (make bench), from the project's root. No time makes it fail.
//
// Figures are medians, and ratios are medians of ratios, over alternating runs (A B A B …).
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hsmkeys/hsmkeys/softhsm"
)

// A bench is one run of all measurements.
type bench struct {
	dir     string // for temporary files
	bin     string // the directory of the programs
	env     []string
	token   softhsm.Token
	largest int // keys
	file    int64
	touch   int64 // memory, see touchMemory
	rounds  int
	out     bytes.Buffer // the tables
}

func main() {
	log.SetFlags(log.Ltime)
	b := &bench{rounds: 10}
	only := flag.String("only", "", "run only the parts whose name matches this regular expression")
	flag.StringVar(&b.dir, "dir", "", "make stores and files in this `DIRECTORY`, on the disk to be measured")
	flag.IntVar(&b.largest, "keys", 1_000_000, "keys in the largest store")
	flag.Int64Var(&b.file, "file", 1<<30, "bytes of the large file")
	touch := flag.Int64("touch", 0, "use this many bytes of memory for a moment, and do nothing else")
	store := flag.String("make", "", "make the store that this JSON describes, and do nothing else")
	flag.Parse()
	if *store != "" {
		if err := makeStore(*store); err != nil {
			log.Fatal(err)
		}
		return
	}
	if *touch > 0 {
		if err := touchMemory(*touch); err != nil {
			log.Fatal(err)
		}
		return
	}
	if err := b.run(regexp.MustCompile(*only)); err != nil {
		log.Fatal(err)
	}
}

func (b *bench) run(only *regexp.Regexp) error {
	dir, err := os.MkdirTemp(b.dir, "hsmkeys-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.dir, b.bin = dir, filepath.Join(dir, "bin")
	env, err := softhsm.New()
	if err != nil {
		return err
	}
	defer env.Close()
	if b.token, err = env.InitToken("bench"); err != nil {
		return err
	}
	pin := filepath.Join(dir, "pin")
	if err := os.WriteFile(pin, []byte(b.token.PIN), 0o600); err != nil {
		return err
	}
	if err := os.Setenv("PATH", b.bin+string(os.PathListSeparator)+os.Getenv("PATH")); err != nil { // where exec finds commands
		return err
	}
	b.env = append(os.Environ(), env.Environ()...)
	b.env = append(b.env, "HSMKEYS_MODULE="+env.Module(), "PKCS11_MODULE_PATH="+env.Module(), "HSMKEYS_TOKEN=bench",
		"HSMKEYS_PIN_SOURCE=file:"+pin, "HOME="+dir)
	for name, pkg := range map[string]string{"hsmkeys": "./cmd/hsmkeys", "age": "filippo.io/age/cmd/age", "age-keygen": "filippo.io/age/cmd/age-keygen"} {
		if _, err := b.output(nil, "go", "build", "-trimpath", "-tags", "urfave_cli_no_docs", "-o", filepath.Join(b.bin, name), pkg); err != nil {
			return err
		}
	}
	b.machine()
	for _, part := range []struct {
		name string
		run  func() error
	}{
		{"token", b.besideToken}, {"command", b.oneCommand}, {"files", b.files}, {"state-many", b.amongMany}, {"state-versions", b.manyVersions},
		{"state-links", b.hostileLinks}, {"before", b.before}, {"growth", b.growth}, {"others", b.otherTokens},
		{"state-size", b.stateSize}, // last, for the memory that it takes, see touchMemory
	} {
		if !only.MatchString(part.name) {
			continue
		}
		log.Printf("measuring: %s", part.name)
		if err := part.run(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if only.String() != "" { // not a complete run
		fmt.Print(b.out.String())
		return nil
	}
	return replaceTables("docs/performance.md", b.out.String())
}

// machine writes a description of the hardware and software, but not the name of the machine.
func (b *bench) machine() {
	cpu := "unknown"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(info); m != nil {
			cpu = string(m[1])
		}
	}
	version := func(args ...string) string {
		out, err := b.output(nil, args...)
		if err != nil {
			return "unknown"
		}
		return strings.TrimSpace(strings.SplitN(out, "\n", 2)[0])
	}
	commit := version("git", "rev-parse", "--short", "HEAD")
	kernel := version("uname", "-sr")
	fmt.Fprintf(&b.out, "Measured %s at commit %s: %s, %d processors; %s; %s; SoftHSM %s; %s; age %s.\n",
		time.Now().UTC().Format(time.DateOnly), commit, cpu, runtime.NumCPU(), kernel, runtime.Version(),
		version("softhsm2-util", "--version"), version("openssl", "version"), ageVersion())
}

func ageVersion() string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "filippo.io/age").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func (b *bench) heading(format string, args ...any) {
	fmt.Fprintf(&b.out, "\n### "+format+"\n\n", args...)
}

func (b *bench) table(rows [][]string) {
	for i, row := range rows {
		fmt.Fprintf(&b.out, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(&b.out, "|%s\n", strings.Repeat("---|", len(row)))
		}
	}
}

// output runs a command and returns its stdout.
func (b *bench) output(env []string, args ...string) (string, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(slices.Clone(b.env), env...)
	if b.env == nil {
		cmd.Env = append(os.Environ(), env...)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// inTurns times commands with hyperfine, alternately, in the given number of rounds, and
// returns the seconds of each.
func (b *bench) inTurns(rounds int, env []string, commands ...string) ([][]float64, error) {
	times := make([][]float64, len(commands))
	report := filepath.Join(b.dir, "hyperfine.json")
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for round := range rounds + 1 {
		for i, command := range commands {
			for _, name := range []string{"ours.new", "age.new"} { // a new file each time: overwriting one also frees its blocks
				os.Remove(filepath.Join(b.dir, name))
			}
			syscall.Sync() // so that this command does not wait for earlier writes
			if b.touch > 0 {
				if _, err := b.output(nil, self, "-touch", strconv.FormatInt(b.touch, 10)); err != nil {
					return nil, err
				}
			}
			if _, err := b.output(env, "hyperfine", "-N", "-r", "1", "--export-json", report, command); err != nil {
				return nil, err
			}
			data, err := os.ReadFile(report)
			if err != nil {
				return nil, err
			}
			var parsed struct {
				Results []struct {
					Times []float64 `json:"times"`
				} `json:"results"`
			}
			if err := json.Unmarshal(data, &parsed); err != nil {
				return nil, err
			}
			if round > 0 { // the first is a warm-up
				times[i] = append(times[i], parsed.Results[0].Times...)
			}
		}
	}
	return times, nil
}

// touchMemory uses size bytes of free memory for a moment. The host of a virtual machine
// takes free memory back, and the next process to use it waits for it: that can take as long
// as the disk, and must not be counted against the measured program. It runs in a process of
// its own, because a process's own peak counts as that of its children (getrusage(2)).
func touchMemory(size int64) error {
	memory, err := syscall.Mmap(-1, 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_POPULATE)
	if err != nil {
		return err
	}
	return syscall.Munmap(memory)
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// ratio returns the median of the ratios of alternating runs.
func ratio(a, b []float64) float64 {
	var all []float64
	for i := range a {
		all = append(all, a[i]/b[i])
	}
	return median(all)
}

// use is the time and memory that one run of a command took.
type use struct {
	seconds, first float64 // until the end, until the first byte on stdout
	peak           int64   // resident memory, in bytes
}

// watch runs a command and measures its time and memory. Its output is discarded.
func (b *bench) watch(env []string, args ...string) (use, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(slices.Clone(b.env), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return use{}, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return use{}, err
	}
	var u use
	buffer := make([]byte, 1<<20)
	for {
		n, err := out.Read(buffer)
		if n > 0 && u.first == 0 {
			u.first = time.Since(began).Seconds()
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	u.seconds = time.Since(began).Seconds()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.peak = usage.Maxrss << 10
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 && slices.Contains(args, "drill") {
		err = nil // drill reports that keys would be lost, as expected here
	}
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return u, err
}

func mib(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }

func number(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

const begin, end = "<!-- measured -->\n", "<!-- end of what was measured -->"

// replaceTables replaces the text between the markers of the document with tables.
func replaceTables(path, tables string) error {
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok1 := strings.Cut(string(doc), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s has no markers for the tables", path)
	}
	return os.WriteFile(path, []byte(head+begin+"\n"+tables+"\n"+end+tail), 0o644)
}
