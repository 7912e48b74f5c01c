// A program of Windows that does with CryptoAPI what hsmkeys does with a token: the peer of
// scripts/cryptoapi.sh. It reads commands from stdin, a line each, so that one start of
// Wine does many of them, and ends with status 1 at the first that fails.
//
//	pair CONTAINER BITS             CryptGenKey, AT_KEYEXCHANGE
//	public CONTAINER FILE           PUBLICKEYBLOB of the pair
//	private CONTAINER FILE          PRIVATEKEYBLOB of the pair
//	session ALGORITHM BITS PADDING TO SIMPLE PLAIN
//	                                CryptGenKey; the key as a SIMPLEBLOB for the public key
//	                                in the file TO, and as a PLAINTEXTKEYBLOB
//	import CONTAINER PADDING SIMPLE IN OUT
//	                                CryptImportKey of a SIMPLEBLOB with the pair, and CryptEncrypt
//	                                under the key
//	derive HASH ALGORITHM BITS PASSWORD PLAIN
//	                                CryptDeriveKey
//	encrypt PLAIN IN OUT            CryptEncrypt under the key in a PLAINTEXTKEYBLOB
//	sign CONTAINER IN OUT           CryptSignHash of the SHA-256 with the pair
//	verify PUBLIC IN SIGNATURE      CryptVerifySignature
//
// PADDING is v15 or oaep; ALGORITHM and HASH are ALG_IDs in hexadecimal digits.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <windows.h>
#include <wincrypt.h>

static const char *line; // what is being done
static int number;

static void fail(const char *what)
{
	DWORD err = GetLastError();
	fprintf(stderr, "line %d, %s: %s: error 0x%lx\n", number, line, what, (unsigned long)err);
	exit(1);
}

#define must(call) do { if (!(call)) fail(#call); } while (0)

struct bytes {
	DWORD size;
	BYTE data[64 * 1024];
};

static struct bytes *read_file(const char *path)
{
	struct bytes *b = calloc(1, sizeof *b);
	FILE *f = fopen(path, "rb");
	if (!b || !f)
		fail(path);
	b->size = fread(b->data, 1, sizeof b->data, f);
	if (ferror(f) || !feof(f))
		fail(path);
	fclose(f);
	return b;
}

static void write_file(const char *path, const struct bytes *b)
{
	FILE *f = fopen(path, "wb");
	if (!f || fwrite(b->data, 1, b->size, f) != b->size || fclose(f) != 0)
		fail(path);
}

static HCRYPTPROV container(const char *name, DWORD flags)
{
	HCRYPTPROV p;
	must(CryptAcquireContextA(&p, name, MS_ENH_RSA_AES_PROV_A, PROV_RSA_AES, flags));
	return p;
}

// transient is a provider without pairs, for public and session keys.
static HCRYPTPROV transient(void) { return container(NULL, CRYPT_VERIFYCONTEXT); }

static HCRYPTKEY exchange_key(HCRYPTPROV p)
{
	HCRYPTKEY key;
	must(CryptGetUserKey(p, AT_KEYEXCHANGE, &key));
	return key;
}

static HCRYPTKEY import_file(HCRYPTPROV p, const char *path, HCRYPTKEY with, DWORD flags)
{
	HCRYPTKEY key;
	struct bytes *b = read_file(path);
	must(CryptImportKey(p, b->data, b->size, with, flags, &key));
	free(b);
	return key;
}

static void export_file(HCRYPTKEY key, HCRYPTKEY to, DWORD type, DWORD flags, const char *path)
{
	struct bytes b;
	b.size = sizeof b.data;
	must(CryptExportKey(key, to, type, flags, b.data, &b.size));
	write_file(path, &b);
}

static HCRYPTHASH hash_file(HCRYPTPROV p, ALG_ID algorithm, const char *path)
{
	HCRYPTHASH hash;
	struct bytes *b = read_file(path);
	must(CryptCreateHash(p, algorithm, 0, 0, &hash));
	must(CryptHashData(hash, b->data, b->size, 0));
	free(b);
	return hash;
}

static ALG_ID alg_id(const char *s) { return strtoul(s, NULL, 16); }

// sized is the flags of a session key of so many bits that may be exported.
static DWORD sized(const char *bits) { return strtoul(bits, NULL, 10) << 16 | CRYPT_EXPORTABLE; }

static DWORD padding(const char *s) { return strcmp(s, "oaep") == 0 ? CRYPT_OAEP : 0; }

static void pair(char **a)
{
	HCRYPTPROV p = container(a[0], CRYPT_NEWKEYSET);
	HCRYPTKEY key;
	must(CryptGenKey(p, AT_KEYEXCHANGE, sized(a[1]), &key));
	must(CryptDestroyKey(key) && CryptReleaseContext(p, 0)); // which keeps the pair
}

static void public(char **a) { export_file(exchange_key(container(a[0], 0)), 0, PUBLICKEYBLOB, 0, a[1]); }

static void private(char **a) { export_file(exchange_key(container(a[0], 0)), 0, PRIVATEKEYBLOB, 0, a[1]); }

static void session(char **a)
{
	HCRYPTPROV p = transient();
	HCRYPTKEY key;
	must(CryptGenKey(p, alg_id(a[0]), sized(a[1]), &key));
	export_file(key, import_file(p, a[3], 0, 0), SIMPLEBLOB, padding(a[2]), a[4]);
	export_file(key, 0, PLAINTEXTKEYBLOB, 0, a[5]);
}

static void encrypt_file(HCRYPTKEY key, const char *in, const char *out)
{
	struct bytes *b = read_file(in);
	must(CryptEncrypt(key, 0, TRUE, 0, b->data, &b->size, sizeof b->data));
	write_file(out, b);
	free(b);
}

// Wine knows CRYPT_OAEP here only where no other flag is set, so the key cannot be exported
// again: it is known by what it encrypts.
static void import(char **a)
{
	HCRYPTPROV p = container(a[0], 0);
	encrypt_file(import_file(p, a[2], exchange_key(p), padding(a[1])), a[3], a[4]);
}

static void derive(char **a)
{
	HCRYPTPROV p = transient();
	HCRYPTKEY key;
	must(CryptDeriveKey(p, alg_id(a[1]), hash_file(p, alg_id(a[0]), a[3]), sized(a[2]), &key));
	export_file(key, 0, PLAINTEXTKEYBLOB, 0, a[4]);
}

static void encrypt(char **a) { encrypt_file(import_file(transient(), a[0], 0, 0), a[1], a[2]); }

static void sign(char **a)
{
	struct bytes b;
	b.size = sizeof b.data;
	must(CryptSignHashA(hash_file(container(a[0], 0), CALG_SHA_256, a[1]), AT_KEYEXCHANGE, NULL, 0, b.data, &b.size));
	write_file(a[2], &b);
}

static void verify(char **a)
{
	HCRYPTPROV p = transient();
	struct bytes *b = read_file(a[2]);
	must(CryptVerifySignatureA(hash_file(p, CALG_SHA_256, a[1]), b->data, b->size, import_file(p, a[0], 0, 0), NULL, 0));
	free(b);
}

static const struct {
	const char *name;
	int arguments;
	void (*run)(char **);
} commands[] = {
	{"pair", 2, pair}, {"public", 2, public}, {"private", 2, private}, {"session", 6, session}, {"import", 5, import},
	{"derive", 5, derive}, {"encrypt", 3, encrypt}, {"sign", 3, sign}, {"verify", 3, verify},
};

int main(void)
{
	char in[4096], words[4096], *a[8];
	while (fgets(in, sizeof in, stdin)) {
		int n = 0, known = 0;
		in[strcspn(in, "\r\n")] = 0;
		line = in, number++;
		strcpy(words, in);
		for (char *w = strtok(words, " "); w && n < 8; w = strtok(NULL, " "))
			a[n++] = w;
		for (size_t i = 0; n > 0 && i < sizeof commands / sizeof *commands; i++)
			if (strcmp(commands[i].name, a[0]) == 0 && commands[i].arguments == n - 1) {
				commands[i].run(a + 1);
				known = 1;
			}
		if (!known)
			fail("no such command");
	}
	printf("%d\n", number);
	return 0;
}
