# Starts the application with a pool for the tests, then runs them in order: see the script run.
{options, []} = OptionParser.parse!(System.argv(), strict: [only: :keep])
only = for {:only, tag} <- options, do: String.to_atom(tag)
filters = if only == [], do: [exclude: [:figures]], else: [exclude: [:test], include: only]

root = Path.expand("../..", __DIR__)
dir = Path.join(System.tmp_dir!(), "erlang_python_elixir_#{System.pid()}")
File.mkdir_p!(dir)
System.at_exit(fn _ -> File.rm_rf!(dir) end)

Logger.configure(level: :warning)
pool = %{workers: 2, python_path: [dir, Path.join(__DIR__, "python")], cd: dir}
:ok = Application.put_env(:erlang_python, :pools, %{default: pool})
{:ok, _} = Application.ensure_all_started(:erlang_python)

# In the order in which they are written: the blocks of a page are one session.
ExUnit.start([seed: 0, timeout: 60_000] ++ filters)
Application.put_env(:erlang_python_elixir, :page, {Path.join(root, "docs/elixir.md"), dir})

for file <- ["stand_ins.ex", "page.ex", "enumerable_test.exs", "structs_test.exs", "page_test.exs", "stages_test.exs"] do
  Code.require_file(file, __DIR__)
end
