#include "process.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <string_view>

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/files.h"

namespace flyover::tests {
namespace {

std::int64_t microseconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin).count();
}

bool write_whole(const char* file, std::string_view text) {
  const int descriptor = ::open(file, O_WRONLY);
  const bool written = ::write(descriptor, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(descriptor);
  return written;
}

/// Mounts a disk that only this process and its children see; ends the process where that is not allowed.
void mount_small_disk(const std::string& directory, int files) {
  const std::string user = fmt::format("0 {} 1", ::geteuid()), group = fmt::format("0 {} 1", ::getegid());
  const std::string size = fmt::format("nr_inodes={}", files);
  const bool mounted = ::unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write_whole("/proc/self/setgroups", "deny") &&
                       write_whole("/proc/self/uid_map", user) && write_whole("/proc/self/gid_map", group) &&
                       ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                       ::mount("tmpfs", directory.c_str(), "tmpfs", 0, size.c_str()) == 0;
  if (!mounted) {
    ::_exit(kNoSmallDisk);
  }
}

[[noreturn]] void become_flyover(const std::vector<std::string>& arguments, const ProcessOptions& options, int input,
                                 int output) {
  const auto end_of = [&](const std::string& file) {
    return file.empty() ? output : ::open(file.c_str(), O_WRONLY | O_CREAT, 0644);
  };
  ::dup2(end_of(options.output_file), STDOUT_FILENO);
  ::dup2(end_of(options.error_file), STDERR_FILENO);
  ::dup2(input, STDIN_FILENO);
  if (options.file_size_limit >= 0) {
    ::signal(SIGXFSZ, SIG_IGN);  // inherited: writing then fails with an error instead
    const auto bytes = static_cast<rlim_t>(options.file_size_limit);
    const struct rlimit limit { bytes, bytes };
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  if (options.address_space_limit >= 0) {
    const auto bytes = static_cast<rlim_t>(options.address_space_limit);
    const struct rlimit limit { bytes, bytes };
    ::setrlimit(RLIMIT_AS, &limit);
  }
  if (!options.small_disk.empty()) {
    mount_small_disk(options.small_disk, options.small_disk_files);
  }
  std::vector<char*> argv;
  std::string program = FLYOVER_BINARY;
  argv.push_back(program.data());
  std::vector<std::string> copies = arguments;
  for (std::string& argument : copies) {
    argv.push_back(argument.data());
  }
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  ::_exit(127);
}

}  // namespace

ProcessResult run_flyover(const std::vector<std::string>& arguments, const ProcessOptions& options) {
  std::array<int, 2> pipe_ends{};
  base::check(::pipe(pipe_ends.data()) == 0, "cannot make a pipe");
  std::array<int, 2> input_ends{};
  base::check(::pipe(input_ends.data()) == 0, "cannot make a pipe");
  base::check(options.input.size() <= 65536, "more input than a pipe holds");
  const ssize_t written = ::write(input_ends[1], options.input.data(), options.input.size());
  base::check(written == static_cast<ssize_t>(options.input.size()), "cannot write the child's input");
  ::close(input_ends[1]);
  const auto begin = std::chrono::steady_clock::now();
  const pid_t child = ::fork();
  base::check(child >= 0, "cannot fork");
  if (child == 0) {
    ::close(pipe_ends[0]);
    become_flyover(arguments, options, input_ends[0], pipe_ends[1]);
  }
  ::close(input_ends[0]);
  ::close(pipe_ends[1]);
  ProcessResult result;
  bool sent = options.kill_after_microseconds < 0;
  for (;;) {
    struct pollfd watched {
      pipe_ends[0], POLLIN, 0
    };
    const std::int64_t left = sent ? 100'000 : options.kill_after_microseconds - microseconds_since(begin);
    const struct timespec wait { 0, std::clamp<long>(static_cast<long>(left), 0L, 500'000L) * 1000 };
    ::ppoll(&watched, 1, &wait, nullptr);
    if (!sent && microseconds_since(begin) >= options.kill_after_microseconds) {
      ::kill(child, options.signal_after != 0 ? options.signal_after : SIGKILL);
      sent = true;
    }
    if ((watched.revents & (POLLIN | POLLHUP)) != 0) {
      std::array<char, 4096> buffer{};
      const ssize_t count = ::read(pipe_ends[0], buffer.data(), buffer.size());
      if (count <= 0) {
        break;
      }
      result.output.append(buffer.data(), static_cast<std::size_t>(count));
    }
  }
  ::close(pipe_ends[0]);
  int status = 0;
  struct rusage usage {};
  ::wait4(child, &status, 0, &usage);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  result.peak_memory = std::int64_t{usage.ru_maxrss} * 1024;
  result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  return result;
}

std::string tiny_recipe(const std::filesystem::path& run_directory) {
  return fmt::format(R"(run_directory: {}
seed: 3
threads: 1
precision: bf16
model:
  random:
    config: {{model_type: llama, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2,
             num_key_value_heads: 1, max_position_embeddings: 160, rms_norm_eps: 1.0e-5, tie_word_embeddings: true}}
    tokenizer:
      train_bpe: {{vocabulary_size: 300, samples: 50}}
stages:
  - name: raw
    algorithm: continued
    data: {{train: {{generate: quickstart_text, count: 60}}, max_seq_length: 64, show_examples: 0}}
    optimizer: {{learning_rate: 3.0e-3}}
    schedule: {{max_steps: 20}}
    batch: {{global_batch_tokens: 256}}
    checkpoint: {{every_steps: 3}}
  - name: instruct
    algorithm: sft
    chat_template: chatml
    data:
      train: {{generate: quickstart_instructions, count: 80}}
      validation: {{generate: quickstart_instructions, count: 10}}
      max_seq_length: 160
      show_examples: 1
    optimizer: {{learning_rate: 3.0e-3}}
    schedule: {{max_steps: 30}}
    batch: {{global_batch_size: 8}}
    checkpoint: {{every_steps: 2}}
    validation: {{every_steps: 10}}
)",
                     run_directory.string());
}

void write_file(const std::filesystem::path& path, const std::string& contents) {
  std::filesystem::create_directories(path.parent_path());
  base::write_file_atomically(path, contents);
}

}  // namespace flyover::tests
