%% @doc The application: one Python process with the model in it, and the web server.
-module(chat_app).
-behaviour(application).
-behaviour(supervisor).

-export([start/2, stop/1]).
-export([init/1]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    {ok, {Module, _Function}} = application:get_env(chat, model),
    {ok, Pool} = application:get_env(chat, pool),
    %% One process: the model is in memory once, and answers all tabs from there. It is
    %% loaded (`preload') before the first request comes.
    Defaults = #{
        workers => 1,
        preload => [Module],
        start_timeout => 120000,
        python_path => [filename:join(code:priv_dir(chat), "python")]
    },
    serve(py:start_pool(chat, maps:merge(Defaults, Pool))).

serve({ok, _Pid}) ->
    case supervisor:start_link({local, chat_sup}, ?MODULE, chat_sup) of
        {ok, Supervisor} ->
            {ok, Supervisor};
        {error, Reason} ->
            ok = py:stop_pool(chat),
            {error, Reason}
    end;
serve({error, Reason}) ->
    {error, Reason}.

-spec stop(term()) -> ok.
stop(_State) ->
    py:stop_pool(chat).

-spec init(chat_sup | chat_connections) ->
    {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(chat_sup) ->
    {ok, Port} = application:get_env(chat, port),
    Connections = {local, chat_connections},
    {ok,
        {#{strategy => one_for_one}, [
            #{
                id => chat_connections,
                start => {supervisor, start_link, [Connections, ?MODULE, chat_connections]},
                type => supervisor
            },
            #{id => chat_listener, start => {chat_listener, start_link, [Port]}}
        ]}};
init(chat_connections) ->
    Connection = #{
        id => chat_connection,
        start => {chat_connection, start_link, []},
        restart => temporary
    },
    {ok, {#{strategy => simple_one_for_one}, [Connection]}}.
