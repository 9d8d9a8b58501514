%% @doc Virtual environments that a pool makes for itself. The work is done by a
%% Python program, make_venv.py, which knows what is installed already; here is what
%% runs it and ends it.
-module(py_venv).

-export([exit_made/2, is_needed/2, prepare/1, start_maker/1]).

%% The longest that making an environment and installing into it may take. A
%% larger number keeps a pool waiting for an index that hangs; a smaller one
%% breaks off the building of a large package.
-define(TIMEOUT_MS, 15 * 60 * 1000).

%% How many of the last lines that were printed are kept for the reason. A larger number
%% makes reasons that nobody reads, a smaller one cuts off an installer's explanation.
-define(KEPT_LINES, 20).

%% Longer lines come in pieces.
-define(LINE_BYTES, 4096).

%% How make_venv.py marks the sentence that says what failed, and what it does next.
-define(FAILED, "erlang_python: ").
-define(STEP, "==> ").

%% @doc Makes a virtual environment ahead, for an image or a release: `Opts' are those of a
%% pool, with `venv' and `requirements'. The application need not run. A pool that starts
%% with the same options finds it.
-spec prepare(py_options:pool_options() | [{atom(), term()}]) -> ok | {error, py_error:reason()}.
prepare(Opts) ->
    case py_interpreter:resolve(py_options:pool(Opts)) of
        {ok, #{requirements := []}} ->
            ok;
        {ok, Resolved} ->
            Progress = py_progress:new(),
            Result = await(start_maker(Resolved), Progress),
            py_progress:clear(Progress),
            Result;
        {error, Reason} ->
            {error, Reason}
    end.

await(Maker = {Pid, Monitor}, Progress) ->
    receive
        {venv, Pid, Line} ->
            case py_progress:is_shown(Progress) of
                true -> py_progress:show(Line, Progress);
                false -> py_log:venv_progress(none, Line)
            end,
            await(Maker, Progress);
        {'DOWN', Monitor, process, Pid, {made, Result}} ->
            Result;
        {'DOWN', Monitor, process, Pid, Reason} ->
            {error, {cannot_start, unicode:characters_to_binary(io_lib:format("~tp", [Reason]))}}
    end.

%% @private
%% @doc Whether something may have to be made before a worker can start: at the pool's start
%% when it has requirements, and later if its environment is gone. So all workers of a pool
%% run in the same one.
-spec is_needed(starting | started, py_options:pool_options()) -> boolean().
is_needed(_Phase, #{requirements := []}) -> false;
is_needed(starting, _PoolOpts) -> true;
is_needed(started, #{venv := Venv}) -> not filelib:is_file(filename:join([Venv, "bin", "python"])).

%% @private
%% @doc Starts a process that makes the pool's virtual environment and installs its
%% requirements, unless that was done already. The caller gets `{venv, Pid, Line}' for
%% each line that is printed and then a `DOWN' with `{made, ok | {error, Reason}}'. The
%% process ends with the caller, and its programs end with it.
-spec start_maker(py_options:pool_options()) -> {pid(), reference()}.
start_maker(PoolOpts) ->
    Owner = self(),
    spawn_monitor(?MODULE, exit_made, [Owner, PoolOpts]).

%% @private Its exit says how it ended.
-spec exit_made(pid(), py_options:pool_options()) -> no_return().
exit_made(Owner, PoolOpts) ->
    exit({made, make(Owner, PoolOpts)}).

make(Owner, PoolOpts = #{venv := Venv, requirements := Requirements}) ->
    Base = py_interpreter:base(PoolOpts),
    case {py_interpreter:find(Base), py_interpreter:bootstrap("erlang_port.make_venv")} of
        {false, _} ->
            {error, {python_not_found, unicode:characters_to_list(py_text:readable(Base))}};
        {_, {error, Reason}} ->
            {error, Reason};
        {Python, {ok, Bootstrap}} ->
            run(Owner, Python, Bootstrap ++ [Venv | wanted(Requirements)], PoolOpts)
    end.

wanted({Kind, Path}) -> [atom_to_list(Kind), Path];
wanted(Requirements) -> ["list" | [py_text:native(Requirement) || Requirement <- Requirements]].

run(Owner, Python, Args, PoolOpts = #{venv := Venv}) ->
    Options = [
        {args, Args},
        {env, py_interpreter:variables(PoolOpts)},
        {line, ?LINE_BYTES},
        exit_status,
        stderr_to_stdout,
        binary,
        hide
    ],
    try open_port({spawn_executable, Python}, Options) of
        Port -> run(Owner, Port, Venv)
    catch
        error:Posix -> {error, {cannot_start, failure(Venv, {{cannot_run, Python, Posix}, []})}}
    end.

run(Owner, Port, Venv) ->
    Monitor = monitor(process, Owner),
    py_reaper:is_running() andalso py_reaper:adopt(self(), py_os:of_port(Port)),
    Timer = erlang:start_timer(?TIMEOUT_MS, self(), too_long),
    case collect(Port, Monitor, Timer, Owner, []) of
        ok -> ok;
        {error, Why} -> {error, {cannot_start, failure(Venv, Why)}}
    end.

collect(Port, Monitor, Timer, Owner, Lines) ->
    receive
        {Port, {data, {_, <<?FAILED, Sentence/binary>>}}} ->
            collect(Port, Monitor, Timer, Owner, [{sentence, Sentence} | Lines]);
        {Port, {data, {_, Step = <<?STEP, _/binary>>}}} ->
            Owner ! {venv, self(), Step},
            collect(Port, Monitor, Timer, Owner, []);
        {Port, {data, {_, Line}}} ->
            Owner ! {venv, self(), printable(Line)},
            collect(Port, Monitor, Timer, Owner, lists:sublist([Line | Lines], ?KEPT_LINES));
        {Port, {exit_status, 0}} ->
            ok;
        {Port, {exit_status, Code}} ->
            {error, {py_os:status(Code), Lines}};
        {timeout, Timer, too_long} ->
            {error, {too_long, Lines}};
        %% The programs end when they see that the port is closed.
        {'DOWN', Monitor, process, Owner, _} ->
            exit(normal)
    end.

%% One sentence, then what the installer said itself.
failure(Venv, {Status, Lines}) ->
    Said = [[$\n, printable(Line)] || Line <- lists:reverse(Lines), is_binary(Line)],
    Sentence =
        case {lists:keyfind(sentence, 1, [Line || Line <- Lines, is_tuple(Line)]), Status} of
            {{sentence, Text}, _} -> printable(Text);
            {false, too_long} -> io_lib:format("it was not ready after ~p s", [?TIMEOUT_MS div 1000]);
            {false, {cannot_run, Python, Posix}} -> io_lib:format("~ts: ~tp", [py_text:readable(Python), Posix]);
            {false, {signal, Signal}} -> io_lib:format("signal ~p ended the program that makes it", [Signal]);
            {false, Code} -> io_lib:format("the program that makes it ended with exit code ~p", [Code])
        end,
    unicode:characters_to_binary([
        "the virtual environment ", py_text:readable(Venv), " cannot be made: ", Sentence, Said
    ]).

printable(Line) ->
    case unicode:characters_to_binary(Line) of
        Utf8 when is_binary(Utf8) -> Utf8;
        _ -> unicode:characters_to_binary(Line, latin1)
    end.
