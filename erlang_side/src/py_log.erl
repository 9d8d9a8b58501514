%% @doc What this library logs by itself, under the domain `[erlang_python]'.
%% @hidden
-module(py_log).

-include("py_worker.hrl").
-include_lib("kernel/include/logger.hrl").

-export([report/1, describe/2, label/2, meta/1, meta/2]).
-export([cast_failed/5, ready/3, recycled/3, replay_failed/2, start_failed/2, venv_progress/2]).

%% @doc What the calling process is: for its log records, and for observer and
%% `process_info(Pid, label)' (OTP 27).
-spec describe(manager | worker | output | delivery, #{atom() => term()}) -> ok.
describe(What, Meta = #{pool := Pool}) ->
    logger:update_process_metadata(Meta),
    label(What, Pool).

%% @doc The label alone, of processes that come and go.
-spec label(atom(), term()) -> ok.
label(What, Of) ->
    %% By a variable: OTP 26 has no such function.
    Module = proc_lib,
    case erlang:function_exported(Module, set_label, 1) of
        true -> Module:set_label({erlang_python, What, Of});
        false -> ok
    end.

%% @doc The metadata of a record about a worker: its pool, its pid and that of Python, as far as they
%% are known.
-spec meta(#worker{} | py_options:destination() | none) -> logger:metadata().
meta(#worker{pid = Pid, pool = Pool}) ->
    meta(Pool, Pid);
meta(Pid) when is_pid(Pid) ->
    meta(Pid, Pid);
meta(none) ->
    ?LOG_META;
meta(Pool) ->
    maps:put(pool, Pool, ?LOG_META).

-spec meta(py_pool:name(), pid()) -> logger:metadata().
meta(Pool, Pid) ->
    maps:merge(maps:merge(?LOG_META, #{pool => Pool, worker => Pid}), py_workers:about(Pid)).

%% @doc A report as one sentence, with what it is about behind it.
-spec report(logger:report()) -> {io:format(), [term()]}.
report(#{text := Text} = Report) ->
    case lists:sort(maps:to_list(maps:remove(text, Report))) of
        [] -> {"~ts", [Text]};
        About -> {"~ts (~ts)", [Text, lists:join(", ", [about(Key, Value) || {Key, Value} <- About])]}
    end.

about(Key, Value) ->
    case io_lib:printable_unicode_list(Value) orelse is_binary(Value) of
        true -> io_lib:format("~ts: ~ts", [Key, Value]);
        false -> io_lib:format("~ts: ~0tp", [Key, Value])
    end.

%% @doc A worker is ready. If it encodes terms slowly the log says so, once in a
%% node's life.
-spec ready(py_pool:name(), pid(), py_pool_info:python_info()) -> ok.
ready(Pool, Pid, Info) ->
    ?LOG_DEBUG(#{text => "a Python worker is ready", pool => Pool, python => Info}, meta(Pool, Pid)),
    case Info of
        #{writer := python} -> once(writer, Pool);
        #{} -> ok
    end.

once(Key, Pool) ->
    case persistent_term:get({?MODULE, Key}, false) of
        true ->
            ok;
        false ->
            persistent_term:put({?MODULE, Key}, true),
            ?LOG_NOTICE(
                #{
                    text =>
                        "the Python package erlpack is not installed: everything works, slower; "
                        "pip install erlpack in the environment that the pool runs in",
                    pool => Pool
                },
                meta(Pool)
            )
    end.

%% @doc A worker has done enough, or what it has imported has changed.
-spec recycled(py_pool:name(), pid(), py_recycling:why()) -> ok.
recycled(Pool, Pid, {reload, File}) ->
    ?LOG_NOTICE(#{text => "a file has changed: a Python worker is restarted", pool => Pool, worker => Pid, file => File}, meta(Pool, Pid));
recycled(Pool, Pid, Limit) ->
    ?LOG_INFO(#{text => "a Python worker is recycled", pool => Pool, worker => Pid, limit => Limit}, meta(Pool, Pid)).

%% @doc A call without a waiting caller failed. `Where' is its worker, or what it was given as the pool.
-spec cast_failed(py_error:reason(), py_options:destination(), {py_name:name(), py_name:name()}, #worker{} | py_options:destination(), reference() | none) -> ok.
cast_failed(Reason, Pool, {Module, Function}, Where, Ref) ->
    Request = #{module => Module, function => Function},
    Named =
        case Ref of
            none -> Request;
            _ -> Request#{reference => Ref}
        end,
    ?LOG_ERROR(
        #{
            text => "a py:cast failed",
            pool => Pool,
            module => Module,
            function => Function,
            reason => py_error:format_error(Reason)
        },
        (meta(Where))#{request => Named}
    ).

%% @doc Code that the other workers ran failed in one that was restarted.
-spec replay_failed(#worker{}, py_error:reason()) -> ok.
replay_failed(Worker = #worker{pool = Pool}, Reason) ->
    ?LOG_ERROR(
        #{
            text => "code of py:exec failed in a restarted worker",
            pool => Pool,
            reason => py_error:format_error(Reason)
        },
        meta(Worker)
    ).

%% @doc The first start of a pool failed, and nobody waits for its end.
-spec start_failed(term(), term()) -> ok.
start_failed(Pool, Reason) ->
    ?LOG_ERROR(
        #{text => "a pool cannot start", pool => Pool, reason => py_error:format_error(Reason)},
        meta(Pool)
    ).

%% @doc A line of what makes the virtual environment of a pool.
-spec venv_progress(term(), binary()) -> ok.
venv_progress(Pool, Line) ->
    ?LOG_NOTICE(
        #{text => "a virtual environment is made", pool => Pool, line => Line},
        meta(Pool)
    ).
