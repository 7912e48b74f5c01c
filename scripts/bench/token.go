package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// besideToken runs the Go benchmarks, which alternate with the token's own loops.
func (b *bench) besideToken() error {
	out, err := b.output(nil, "go", "test", "-run", "^$", "-bench", "Open|Create|Rotate|Rewrap|Recover|Verify", "-benchtime", "1x", "-timeout", "60m", ".")
	if err != nil {
		return err
	}
	b.heading("Beside the token's own operations")
	fmt.Fprintln(&b.out, "SoftHSM, RSA-3072, one owner and one authority. Operations per second; the bare loop runs in the same number of threads.")
	fmt.Fprintln(&b.out)
	b.table(metrics(out, map[string]string{
		"Open/another/workers=1": "≥ 0.84", "Open/another/workers=2": "≥ 0.84", "Open/again/workers=1": "≥ 0.97", "Open/again/workers=2": "≥ 0.97",
		"Create/read-back=all/workers=1": "≥ 0.95", "Create/read-back=all/workers=2": "≥ 0.95",
		"Rotate/read-back=all": "≥ 0.8", "Rotate/read-back=none": "≥ 0.8",
		"Rewrap/read-back=all": "≥ 0.95", "Recover/read-back=all": "≥ 0.95", "Verify": "≥ 0.9",
	}))
	return nil
}

var titles = map[string]string{
	"Open/another/workers=1":          "open, another key each time; 1 worker | C_UnwrapKey, C_DestroyObject",
	"Open/another/workers=2":          "the same; 2 workers | the same",
	"Open/again/workers=1":            "open, the same key again; 1 worker | the same",
	"Open/again/workers=2":            "the same; 2 workers | the same",
	"Create/read-back=all/workers=1":  "create; 1 worker | C_UnwrapKey, C_DestroyObject, C_Sign",
	"Create/read-back=all/workers=2":  "the same; 2 workers | the same",
	"Create/read-back=none/workers=1": "create, `--read-back none`; 1 worker | C_Sign",
	"Create/read-back=none/workers=2": "the same; 2 workers | the same",
	"Rotate/read-back=all":            "rotate of 2,000 keys | C_GenerateKey, C_WrapKey for each member, C_UnwrapKey, C_DestroyObject, C_Sign",
	"Rotate/read-back=none":           "the same, `--read-back none` | the same without C_UnwrapKey",
	"Rewrap/read-back=all":            "rewrap of 2,000 keys | C_UnwrapKey, C_DestroyObject, twice; C_Sign",
	"Rewrap/read-back=none":           "the same, `--read-back none` | C_UnwrapKey, C_DestroyObject, C_Sign",
	"Recover/read-back=all":           "recover of 2,000 keys | C_UnwrapKey, C_DestroyObject, twice; C_Sign",
	"Recover/read-back=none":          "the same, `--read-back none` | C_UnwrapKey, C_DestroyObject, C_Sign",
	"Verify":                          "verify of 10,000 keys, no token | rsa.VerifyPSS on all processors",
}

var order = []string{"Open/another/workers=1", "Open/another/workers=2", "Open/again/workers=1", "Open/again/workers=2",
	"Create/read-back=all/workers=1", "Create/read-back=all/workers=2", "Create/read-back=none/workers=1", "Create/read-back=none/workers=2",
	"Rotate/read-back=all", "Rotate/read-back=none", "Rewrap/read-back=all", "Rewrap/read-back=none", "Recover/read-back=all", "Recover/read-back=none", "Verify"}

// metrics makes a table from the output of go test.
func metrics(out string, reach map[string]string) [][]string {
	rows := [][]string{{"what", "beside", "ours/s", "beside/s", "ratio", "to reach"}}
	found := map[string]map[string]float64{}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := regexp.MustCompile(`-\d+$`).ReplaceAllString(strings.TrimPrefix(fields[0], "Benchmark"), "")
		found[name] = map[string]float64{}
		for i := 2; i+1 < len(fields); i += 2 {
			unit := fields[i+1]
			if strings.HasSuffix(unit, "/s") && unit != "bare/s" {
				unit = "ours/s"
			}
			found[name][unit], _ = strconv.ParseFloat(fields[i], 64)
		}
	}
	for _, name := range order {
		m, ok := found[name]
		if !ok {
			continue
		}
		title := strings.SplitN(titles[name], " | ", 2)
		rows = append(rows, []string{title[0], title[1], fmt.Sprintf("%.0f", m["ours/s"]), fmt.Sprintf("%.0f", m["bare/s"]), fmt.Sprintf("%.2f", m["ratio"]), reach[name]})
	}
	return rows
}

// otherTokens does the same on a TPM and on a token at the other end of a socket.
func (b *bench) otherTokens() error {
	binary := filepath.Join(b.dir, "bench.test")
	if _, err := b.output(nil, "go", "test", "-c", "-o", binary, "."); err != nil {
		return err
	}
	for _, t := range []struct{ script, title, operations string }{
		{"scripts/tokens/tpm.sh", "A TPM 2.0 (swtpm, tpm2-pkcs11)", "5"},
		{"scripts/tokens/p11kit.sh", "A SoftHSM token behind `p11-kit server`", "100"},
	} {
		out, err := b.output([]string{"HSMKEYS_BENCH_TOKEN=1", "HSMKEYS_BENCH_OPS=" + t.operations},
			t.script, filepath.Join(b.dir, strings.TrimSuffix(filepath.Base(t.script), ".sh")), binary, "-test.run", "^$", "-test.bench", "Open|Create|Rewrap", "-test.benchtime", "1x", "-test.timeout", "60m")
		if err != nil {
			return err
		}
		b.heading("%s", t.title)
		fmt.Fprintln(&b.out, "RSA-2048 or 3072, whichever the token makes. With it session keys live in memory, so the bare loop decrypts.")
		fmt.Fprintln(&b.out)
		rows := metrics(out, map[string]string{})
		for _, row := range rows {
			row[0] = strings.TrimSuffix(row[0], " of 2,000 keys")
			row[1] = strings.ReplaceAll(row[1], "C_UnwrapKey, C_DestroyObject", "C_Decrypt")
		}
		b.table(rows)
	}
	return nil
}

// oneCommand times whole processes.
func (b *bench) oneCommand() error {
	store := filepath.Join(b.dir, "one")
	env := []string{"HSMKEYS_STORE=" + store}
	at := func(name string) string { return filepath.Join(b.dir, name) }
	if err := os.WriteFile(at("plain"), make([]byte, 1024), 0o600); err != nil {
		return err
	}
	for _, args := range [][]string{{"init"}, {"create", "payroll"}, {"encrypt", "--key", "payroll", "-o", at("file.age"), at("plain")}, {"certificate", "-o", at("owner.pem")}} {
		if _, err := b.output(env, append([]string{"hsmkeys"}, args...)...); err != nil {
			return err
		}
	}
	found, err := filepath.Glob(filepath.Join(store, "keys/payroll/1.1.*.cms"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("blobs of payroll: %v: %w", found, err)
	}
	der, err := os.ReadFile(found[0])
	if err != nil {
		return err
	}
	i := bytes.Index(der, []byte{0x04, 0x82, 0x01, 0x80}) // the encrypted key of RSA-3072
	if err := os.WriteFile(at("wrapped"), der[i+4:i+4+384], 0o600); err != nil {
		return err
	}
	script := fmt.Sprintf(`#!/bin/sh
set -e
openssl cms -verify -inform DER -in %s -certfile %s -CAfile %s -purpose any -binary -out %s
openssl pkeyutl -decrypt -engine pkcs11 -keyform engine -inkey 'pkcs11:token=bench;object=hsmkeys;type=private?pin-source=file:%s' -in %s -out %s -pkeyopt rsa_padding_mode:oaep
`, found[0], at("owner.pem"), at("owner.pem"), at("inner.der"), at("pin"), at("wrapped"), at("key"))
	if err := os.WriteFile(at("openssl.sh"), []byte(script), 0o700); err != nil {
		return err
	}
	tool := fmt.Sprintf("pkcs11-tool --module %s --token-label bench --login --pin %s --decrypt -m RSA-PKCS-OAEP --hash-algorithm SHA-1 --mgf MGF1-SHA1 --label hsmkeys -i %s -o %s",
		variable(b.env, "HSMKEYS_MODULE"), b.token.PIN, at("wrapped"), at("key")) // the PIN of a token that is about to go
	times, err := b.inTurns(2*b.rounds, env, "hsmkeys decrypt "+at("file.age"), at("openssl.sh"), tool)
	if err != nil {
		return err
	}
	run := at("run")
	if err := os.Mkdir(run, 0o700); err != nil {
		return err
	}
	withAgent := append(env, "XDG_RUNTIME_DIR="+run)
	if _, err := b.output(withAgent, "hsmkeys", "agent"); err != nil {
		return err
	}
	agent, err := b.inTurns(2*b.rounds, withAgent, "hsmkeys decrypt "+at("file.age"), at("openssl.sh"))
	if _, stop := b.output(withAgent, "hsmkeys", "agent", "stop"); err == nil {
		err = stop
	}
	if err != nil {
		return err
	}
	b.heading("One command: open a key and decrypt a file of 1 KiB")
	b.table([][]string{
		{"beside", "ours", "beside", "ratio of times", "to reach"},
		{"`openssl cms -verify`, then `openssl pkeyutl -decrypt -engine pkcs11`, of the same blob", ms(times[0]), ms(times[1]), fmt.Sprintf("%.2f", ratio(times[0], times[1])), "≤ 0.8"},
		{"the same two, our command through an agent", ms(agent[0]), ms(agent[1]), fmt.Sprintf("%.2f", ratio(agent[0], agent[1])), "≤ 0.5"},
		{"one `pkcs11-tool --decrypt`", ms(times[0]), ms(times[2]), fmt.Sprintf("%.2f", ratio(times[0], times[2])), "≤ 1.5"},
	})
	return nil
}

func variable(env []string, name string) string {
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}
