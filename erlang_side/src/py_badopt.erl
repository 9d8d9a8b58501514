%% @doc What is raised for an argument or an option that is wrong: `error({badopt, {Key, Value}})'.
%% The shell prints what is allowed instead (EEP 54).
%% @hidden
-module(py_badopt).

-export([allowed/1, raise/2, raise/3]).
-export([format_error/2]).
-export_type([kind/0]).

%% What the options are for.
-type kind() :: stream | collect | enumerable | enumerable_eval | channel | call | exec | pool | worker | stop | application | argument.

%% @doc For arguments that are not in a map of options.
-spec raise(atom(), term()) -> no_return().
raise(Key, Value) ->
    raise(argument, Key, Value).

-spec raise(kind(), term(), term()) -> no_return().
raise(Kind, Key, Value) ->
    Info = #{module => ?MODULE, cause => Kind},
    error({badopt, {Key, Value}}, none, [{error_info, Info}]).

%% @doc What the shell prints, as `error_info' demands.
-spec format_error(term(), erlang:stacktrace()) -> #{reason := string()}.
format_error({badopt, {Key, Value}} = Reason, [{_M, _F, _Arguments, Location} | _]) ->
    #{cause := Kind} = proplists:get_value(error_info, Location),
    Text = explain(Kind, Key, Value, allowed(Kind)),
    #{reason => unicode:characters_to_list(io_lib:format("~0tP: ~ts", [Reason, 20, Text]))}.

explain(argument, Key, Value, Allowed) ->
    io_lib:format("~0tp must be ~ts, and is not ~0tP", [Key, maps:get(Key, Allowed, "something else"), Value, 20]);
explain(Kind, Key, Value, Allowed) ->
    case Allowed of
        #{Key := Text} ->
            io_lib:format("the option ~0tp must be ~ts, and is not ~0tP", [Key, Text, Value, 20]);
        _ ->
            Known = [atom_to_list(Name) || Name <- lists:sort(maps:keys(Allowed))],
            io_lib:format("~ts has no option ~0tp. It has ~ts", [name(Kind), Key, lists:join(", ", Known)])
    end.

name(stream) -> "a stream";
name(collect) -> "a stream that is returned as a list";
name(enumerable) -> "py:enumerable/4";
name(enumerable_eval) -> "py:enumerable_eval/3";
name(channel) -> "a channel";
name(call) -> "a call";
name(exec) -> "py:exec/2";
name(pool) -> "a pool";
name(worker) -> "a worker of one's own";
name(stop) -> "py:stop_pool/2";
name(application) -> "the application erlang_python".

%% @doc The options of a kind, and in words what each may be.
-spec allowed(kind()) -> #{atom() => string()}.
allowed(stream) ->
    (allowed(collect))#{
        owner => "a pid",
        kwargs => "a map or a list of pairs",
        demand => "0 or a positive integer"
    };
allowed(collect) ->
    maps:merge(request(), (streams())#{
        batch => "a positive integer",
        take => "a positive integer",
        format => "term, msgpack or json"
    });
allowed(enumerable) ->
    maps:without([owner, demand], allowed(stream));
allowed(enumerable_eval) ->
    allowed(collect);
allowed(channel) ->
    #{
        owner => "a pid",
        window => "a positive integer",
        window_bytes => "a positive integer",
        binaries => "str or bytes",
        atoms => "atom or str",
        notify => "true or false"
    };
allowed(call) ->
    (request())#{return => "value or handle"};
allowed(exec) ->
    (request())#{return => "value", replay => "true or false"};
allowed(worker) ->
    %% No manager replaces it.
    maps:without([workers, cluster, max_requests, max_age, max_rss, reload], allowed(pool));
allowed(pool) ->
    Pool = #{
        workers => "a positive integer",
        python => "text: a command, a path or a version",
        venv => "a path",
        requirements => "a list of texts, {file, Path} or {project, Path}",
        python_path => "a list of paths without a colon",
        env => "a list of {Name, Value} or {Name, false}",
        cd => "a path",
        preload => "a list of names of modules",
        max_streams => "a positive integer",
        max_threads => "a positive integer",
        thread => "any or main",
        memory_limit => "a positive integer or infinity",
        none => "none, nil or undefined",
        allow => "all, or a list of Module and {Module, Function}",
        interrupt_after => milliseconds(),
        interrupt_grace => milliseconds(),
        kill_after => milliseconds(),
        deaf_after => "milliseconds, 1 to 4294967295, or infinity",
        start_timeout => milliseconds(),
        stop_timeout => milliseconds(),
        worker_wait => milliseconds(),
        max_requests => "a positive integer or infinity",
        max_age => "milliseconds, 1 to 4294967295, or infinity",
        max_rss => "a positive integer or infinity",
        reload => "true or false",
        children => "kill or leave",
        cluster => "true or false",
        caller_functions => "true or false"
    },
    maps:merge(Pool, maps:merge(streams(), (values())#{output => "user or caller"}));
allowed(stop) ->
    #{drain => milliseconds()};
allowed(application) ->
    #{
        pools => "a map or a list of pairs",
        python => "text: a command, a path or a version",
        drain_timeout => milliseconds(),
        max_callbacks => "a positive integer",
        liveness_ms => "milliseconds, 1 to 4294967295"
    };
allowed(argument) ->
    #{
        args => "a list",
        cancel => "[] or [flush]",
        code => "text",
        demand => "a positive integer",
        function => "a fun of one argument, or the name of an exported one",
        kwargs => "a map or a list of pairs, whose keys are different names",
        locals => "a map or a list of pairs, whose keys are different names",
        pool => "the name of a pool, the pid of a worker, or {Name, Where}",
        options => "a map or a list of pairs",
        return => "value",
        seconds => "a positive integer",
        start => "link or monitor",
        timeout => milliseconds()
    }.

request() ->
    (values())#{metadata => "a map", output => "user or caller", profile => "text: the name of a file", pool => "the name of a pool, the pid of a worker, or {Name, Where}", timeout => milliseconds()}.

values() ->
    #{binaries => "str or bytes", atoms => "atom or str", traceback => "true or false"}.

streams() ->
    #{window => "a positive integer or auto", window_bytes => "a positive integer"}.

milliseconds() ->
    "milliseconds, 0 to 4294967295, or infinity".
